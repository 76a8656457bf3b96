"""Tiles as files: PNG of 8 and 16 bits, WebP, JPEG. The encoder must not open a seam that was closed.

    Path("lemon.jpeg").write_bytes(encode(x, "jpeg", dpi=300))

Lossless formats keep the seam. A lossy one alters each side of the edge by itself, and since a file cannot be cut after
encoding, a larger encode of the wrapped tile does not help. Measured on rough and smooth tiles of 64 to 1024 pixels:

jpeg        Blocks are coded each by itself: a tile whose sides are multiples of 8 comes out just as it does in the
            middle of a padded encode, and its edge is as visible as the edges of blocks are. With chroma halved (4:2:0,
            Pillow's default) that is up to 4.3 times the change inside, since the decoder smooths chroma everywhere but
            at the edge of the file. With full chroma (4:4:4) it is up to 1.5 at quality 95 and within 0.8 to 1.2 at 98.
            So: 4:4:4, and the lowest quality, from 95 on, whose decoded seam is closed. Sides may be any.
webp-lossy  WebP's own lossy coder always halves chroma, predicts from what is left and above, and smooths the edges of
            blocks but not those of the file: up to 3.7, at quality 100 too, and still 1.8 where chroma at the edge is
            altered beforehand to make up for it. So values are rounded to every fourth level and coded losslessly: what
            happens to a pixel does not depend on where the edge is. A fifth to a half smaller than lossless.
"""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image
from torch import Tensor

from distill.data.decode import decode_picture
from distill.errors import DataError
from distill.picture import to_images
from distill.seam import SEAMLESS, Seam, seam

QUALITIES = (95, 97, 98, 99, 100)
LEVELS = 4
"""Lossy WebP keeps every fourth of 256 levels."""
WEBP_SIDE = 16383
RESOLUTION_X, RESOLUTION_Y, RESOLUTION_UNIT, INCH = 0x011A, 0x011B, 0x0128, 2


def encode(x: Tensor, kind: str, dpi: float | None = None, wraps: tuple[bool, bool] = (True, True)) -> bytes:
    """The bytes of a file of image x (1 or 3, h, w) in [0, 1] (values outside are clamped); `kind` is one of FORMATS.

    `wraps` says whether bottom and top, and right and left, are to stay closed.
    """
    if x.ndim != 3 or x.shape[0] not in (1, 3):
        raise DataError(f"a picture file holds 1 or 3 channels, (c, h, w), not {tuple(x.shape)}")
    return FORMATS[kind](x.detach().cpu().float().clamp(0, 1), dpi, wraps)


def closed(measured: Seam, before: Seam, wraps: tuple[bool, bool]) -> bool:
    """Whether the seam is within 0.8 to 1.2 on the axes that wrap, or within a tenth of what it was before."""
    axes = [axis for axis, wrap in zip("yx", wraps, strict=True) if wrap]
    names = [name for axis in axes for name in (f"seam_{axis}", f"seam_gradient_{axis}")]
    now, then = measured.as_dict(), before.as_dict()
    return all(
        SEAMLESS[0] <= now[name] <= SEAMLESS[1] or abs(now[name] - then[name]) <= 0.1 * then[name] for name in names
    )


def seam_of(x: Tensor) -> Seam | None:
    """The seam of a picture (c, h, w); None if it is too small or too even to have one."""
    try:
        return seam(x)
    except DataError:
        return None


def _png(x: Tensor, dpi: float | None, wraps) -> bytes:
    return _saved(to_images(x[None])[0], "PNG", **_dpi(dpi))


def _png16(x: Tensor, dpi: float | None, wraps) -> bytes:
    """Pillow writes no RGB of 16 bits; a PNG is few chunks. Rows are stored less the row above, which packs better."""
    c, h, w = x.shape
    levels = x.double().mul(65535).round().permute(1, 2, 0).numpy().astype(">u2")  # (h, w, c), big-endian
    rows = np.ascontiguousarray(levels).view(np.uint8).reshape(h, 2 * c * w)
    filtered = np.full((h, 1 + rows.shape[1]), 2, np.uint8)  # 2: less the row above
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]
    per_metre = round((dpi or 0) / 0.0254)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", w, h, 16, 2 if c == 3 else 0, 0, 0, 0)),
        *([(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1))] if dpi else []),
        (b"IDAT", zlib.compress(filtered.tobytes(), 6)),
        (b"IEND", b""),
    ]
    packed = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
              for name, data in chunks)  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _webp(x: Tensor, dpi: float | None, wraps) -> bytes:
    if max(x.shape[1:]) > WEBP_SIDE:
        raise DataError(f"a WebP has at most {WEBP_SIDE} pixels a side: make it smaller, or take another format")
    options = {}
    if dpi:  # WebP has no field for it but its EXIF data
        options["exif"] = exif = Image.Exif()
        exif[RESOLUTION_X] = exif[RESOLUTION_Y] = dpi
        exif[RESOLUTION_UNIT] = INCH
    return _saved(to_images(x[None])[0], "WEBP", lossless=True, quality=75, **options)


def _webp_lossy(x: Tensor, dpi: float | None, wraps) -> bytes:
    return _webp((x * 255 / LEVELS).round() * LEVELS / 255, dpi, wraps)


def _jpeg(x: Tensor, dpi: float | None, wraps) -> bytes:
    image, before = to_images(x[None])[0], seam_of(x)
    for quality in QUALITIES:
        data = _saved(image, "JPEG", quality=quality, subsampling=0, optimize=True, **_dpi(dpi))
        after = before and seam_of(decode_picture(data))
        if not before or (after and closed(after, before, wraps)):
            break
    return data


def _dpi(dpi: float | None) -> dict:
    return {"dpi": (dpi, dpi)} if dpi else {}


def _saved(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def animate(frames: list[Image.Image], milliseconds: int = 120, last: int = 2000, quality: int = 80) -> bytes:
    """The bytes of an animated WebP of frames of one size; the last one stays for `last` milliseconds."""
    durations = [milliseconds] * (len(frames) - 1) + [last]
    options = {"save_all": True, "append_images": frames[1:], "duration": durations, "loop": 0}
    return _saved(frames[0], "WEBP", quality=quality, **options)


FORMATS: dict[str, Callable[[Tensor, float | None, tuple[bool, bool]], bytes]] = {
    "png": _png, "png16": _png16, "webp": _webp, "webp-lossy": _webp_lossy, "jpeg": _jpeg,
}  # fmt: skip
"""`webp` is lossless."""
SUFFIXES = {"png": ".png", "png16": ".16.png", "webp": ".webp", "webp-lossy": ".lossy.webp", "jpeg": ".jpeg"}
