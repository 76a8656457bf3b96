"""Files that pages link to: written beside them, or, for a page that must stand alone, put into it.

    folder = Folder(Path("site/digits"))
    folder.add("class-0003.webp", data)          # "class-0003.webp", for the page's src
    Embedded().add("class-0003.webp", data)      # "data:image/webp;base64,..."

Names are made by this package, never from what users type.
"""

import base64
import io
import math
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from distill.picture import tidy_columns, to_images

LOSSLESS_BELOW = 48
"""Images narrower than this are small enough to keep every level of."""
QUALITY = 90


class Assets(Protocol):
    """Where the files of a page go."""

    linked: bool
    """Whether the page may link to other pages and to large files."""

    def add(self, name: str, data: bytes) -> str:
        """Keep a file; the URL for the page."""


@dataclass(frozen=True)
class Folder:
    """Files in a folder beside the page; `prefix` is the folder as the page names it."""

    path: Path
    prefix: str = ""
    linked = True

    def add(self, name: str, data: bytes) -> str:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return self.prefix + name


@dataclass(frozen=True)
class Embedded:
    """Files inside the page."""

    linked = False

    def add(self, name: str, data: bytes) -> str:
        kind = mimetypes.guess_type(name)[0] or "image/webp"
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@dataclass(frozen=True)
class Picture:
    """An image of a page."""

    url: str
    width: int
    height: int
    pixelated: bool
    """Whether its pixels should stay visible when it is enlarged."""
    count: int = 1
    """Images in it, or frames below each other."""


def webp(image: Image.Image, lossless: bool) -> bytes:
    """The bytes of a WebP file."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=lossless, quality=80 if lossless else QUALITY, method=4, exact=False)
    return buffer.getvalue()


def strip(images: Tensor, columns: int | None = None) -> Image.Image:
    """Images (n, c, h, w) in [0, 1] in a tidy rectangle at their own size, thin transparent gaps between them."""
    n, _, h, w = images.shape
    if n == 1:
        return to_images(images)[0]
    gap, columns = max(1, w // 16), columns or tidy_columns(n)
    size = (columns * (w + gap) - gap, math.ceil(n / columns) * (h + gap) - gap)
    sheet = Image.new("RGBA", size, (0, 0, 0, 0))
    for i, image in enumerate(to_images(images)):
        sheet.paste(image, (i % columns * (w + gap), i // columns * (h + gap)))
    return sheet


def stack(images: list[Image.Image]) -> Image.Image:
    """Images of one size below each other."""
    width, height = images[0].size
    sheet = Image.new(images[0].mode, (width, height * len(images)))
    for i, image in enumerate(images):
        sheet.paste(image, (0, i * height))
    return sheet


def still(assets: Assets, name: str, images: Tensor, columns: int | None = None) -> Picture:
    """Images (n, c, h, w) in [0, 1] as one picture, every level kept."""
    image = strip(images, columns)
    url = assets.add(f"{name}.webp", webp(image, True))
    return Picture(url, *image.size, images.shape[3] <= 64, len(images))


def sprite(assets: Assets, name: str, frames: list[Tensor]) -> Picture | None:
    """Frames, each (n, c, h, w) in [0, 1], below each other; None if they are too high for one picture."""
    images = [strip(frame) for frame in frames]
    w = frames[0].shape[3]
    if images[0].height * len(images) > 16383:  # WebP's limit
        return None
    image = stack(images)
    url = assets.add(f"{name}.webp", webp(image, w < LOSSLESS_BELOW))
    return Picture(url, *images[0].size, w <= 64, len(images))


def cells(assets: Assets, name: str, grid: Tensor) -> Picture:
    """A grid of images (rows, columns, c, h, w) without gaps; width and height are those of one image."""
    rows, columns, c, h, w = grid.shape
    whole = grid.permute(2, 0, 3, 1, 4).reshape(1, c, rows * h, columns * w)
    url = assets.add(f"{name}.webp", webp(to_images(whole)[0], w < LOSSLESS_BELOW))
    return Picture(url, w, h, w <= 64, rows * columns)


def mosaic(images: Tensor, least: int = 512) -> Image.Image:
    """Images (n, c, h, w) in [0, 1] as one picture, its pixels doubled until it is at least so wide."""
    image = strip(images)
    scale = max(1, math.ceil(least / image.width)) if images.shape[3] <= 64 else 1
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def thumbnail(images: Tensor, side: int) -> Tensor:
    """Images no larger than `side`, shrunk by area."""
    h, w = images.shape[2:]
    scale = min(1.0, side / max(h, w))
    if scale == 1:
        return images
    return torch.nn.functional.interpolate(images, scale_factor=scale, mode="area")
