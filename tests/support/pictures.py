"""Small image files for tests, each filled with its own value, so that a reader's output says where it came from."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def encoded(value: int = 0, h: int = 4, w: int = 4, grey: bool = False, kind: str = "PNG") -> bytes:
    """An image of one value, encoded."""
    out = io.BytesIO()
    Image.fromarray(np.full((h, w) if grey else (h, w, 3), value, np.uint8)).save(out, kind)
    return out.getvalue()


def write(root: Path, files: dict[str, int | bytes | str], **options) -> Path:
    """Files below `root`: an integer is an image of that value, bytes and texts are written as they are."""
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, int):
            kind = "JPEG" if file.suffix.lower() in (".jpg", ".jpeg") else "PNG"
            content = encoded(content, kind=kind, **options)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return root
