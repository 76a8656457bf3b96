"""Canvases of a published set as tileable pictures: named, laid out, brought to a print size, written to files.

for texture in textures(load("runs/fabric")):
    export(texture, Path("out"), ("png", "jpeg"), width=pixels(300, dpi=300), dpi=300)
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from distill.data.decode import MAX_PIXELS, MAX_SIDE, decode_picture
from distill.errors import DataError, StoreError
from distill.image_files import SUFFIXES, encode, seam_of
from distill.lanczos import MEAN, resize
from distill.picture import grid
from distill.published import Published
from distill.published.forms import Windows
from distill.tiles import lay_out

LONGEST = 80
SHEET, ANIMATION = "sheet", "forming"
RESERVED = {SHEET, ANIMATION, "con", "prn", "aux", "nul"} | {f"{d}{i}" for d in ("com", "lpt") for i in range(10)}
"""Names of the other files of an export, and those that Windows refuses whatever their suffix."""
SWATCH = 160
"""A tile is at most this many pixels wide on the sheet."""


@dataclass(frozen=True)
class Texture:
    """One period of a canvas's plane: copies side by side have no seam."""

    name: str
    """Its class, with a number if the class has several canvases."""
    slug: str
    """The same as a file name: [a-z0-9-], unique in its set."""
    x: Tensor
    """In [0, 1], (1 or 3, H, W)."""
    wraps: tuple[bool, bool]
    """Whether rows (bottom to top) and columns (right to left) continue at the opposite edge."""
    colours: int = 0
    """Of a sheet of Wang tiles: how many colours their edges have."""

    def laid_out(self, height: int, width: int, seed: int = 0) -> Tensor:
        """A picture (c, height, width) without a period, of Wang tiles. Raises DataError for other textures."""
        if not self.colours:
            raise DataError(f'{self.name} is one tile, which repeats itself: distill with synthetic.kind = "wang"')
        return lay_out(self.x[None], self.colours, height, width, torch.Generator().manual_seed(seed))[0]

    def tiled(self, tiles: int) -> Tensor:
        """`tiles` copies along each axis that wraps."""
        down, across = (tiles if wrap else 1 for wrap in self.wraps)
        return self.x.repeat(1, down, across)


def textures(published: Published, classes: Sequence[str] = ()) -> list[Texture]:
    """The canvases of a set, of some classes or all. Raises DataError for a set without, and for unknown classes.

    File names depend on the whole set, so that they are the same whichever classes are asked for.
    """
    stored = published.stored
    if not isinstance(stored, Windows) or not any(stored.wraps):
        raise DataError(
            f"this set is stored as {stored.form} that do not tile: distill a recipe with "
            'synthetic.kind = "canvas" or "wang"'
        )
    shown = stored.shown(published.preprocess.to_pixels) if published.shown is None else published.shown
    owners = [_owner(published, k) for k in range(len(shown))]
    counts, seen, names = Counter(owners), Counter(), []
    for owner in owners:
        seen[owner] += 1
        names.append(f"{owner} {seen[owner]}" if counts[owner] > 1 else owner)
    made = [Texture(name, slug, x, stored.wraps, stored.colours)
            for name, slug, x in zip(names, slugs(names), shown, strict=True)]  # fmt: skip
    if unknown := [name for name in classes if name not in owners]:
        known = ", ".join(published.classes[:20]) + (", ..." if len(published.classes) > 20 else "")
        raise DataError(f"no class {unknown[0]!r} in this set: there are {known}")
    return [one for one, owner in zip(made, owners, strict=True) if not classes or owner in classes]


def _owner(published: Published, canvas: int) -> str:
    """The class that the windows of a canvas are labelled with."""
    rows = published.stored.corners[:, 0] == canvas
    return published.classes[int(published.labels[rows].sum(0).argmax())]


def slugs(names: Sequence[str]) -> list[str]:
    """Names as file names, in order: a-z, 0-9 and -, none empty, none twice, none reserved.

    Accents are dropped, other letters than Latin ones too; a name of which nothing is left is texture-N, N its place.
    """
    plain = []
    for place, name in enumerate(names, 1):
        ascii_ = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        slug = re.sub(r"[^a-z0-9]+", "-", ascii_).strip("-")[:LONGEST].rstrip("-") or f"texture-{place}"
        plain.append(f"{slug}-texture" if slug in RESERVED else slug)
    taken, out = set(plain), []
    for place, slug in enumerate(plain):
        number, first = 2, plain.index(slug) == place
        while not first and f"{slug}-{number}" in taken:
            number += 1
        out.append(slug if first else f"{slug}-{number}")
        taken.add(out[-1])
    return out


def pixels(millimetres: float, dpi: float) -> int:
    """The pixels of a print that is so wide."""
    return round(millimetres / 25.4 * dpi)


def picture(texture: Texture, tiles: int = 1, width: int | None = None) -> Tensor:
    """(c, h, w): copies of a tile, and these at a width in pixels, the height in proportion. The seam stays closed.

    Raises DataError where the picture would be too small to hold a tile or too large for a file.
    """
    (height, wide), (down, across) = texture.x.shape[1:], (tiles if wrap else 1 for wrap in texture.wraps)
    copies = size = (height * down, wide * across)
    if width is not None:
        size = (max(1, round(size[0] * width / size[1])), width)
    for h, w in (copies, size):
        if max(h, w) > MAX_SIDE or h * w > MAX_PIXELS:
            limit = f"{MAX_SIDE} pixels a side and {MAX_PIXELS >> 20} million in all"
            raise DataError(f"{texture.name}: {w}x{h} pixels are too many, at most {limit}: fewer copies, or smaller")
    if min(size) < 4:
        raise DataError(f"{texture.name}: {size[1]}x{size[0]} pixels are too few, at least 4x4: make it larger")
    laid = texture.tiled(tiles)
    return laid if size == tuple(laid.shape[1:]) else resize(laid.float(), size, texture.wraps, MEAN).clamp(0, 1)


def export(
    texture: Texture,
    folder: Path,
    formats: Sequence[str] = ("png",),
    tiles: int = 1,
    width: int | None = None,
    dpi: float | None = None,
) -> list[dict]:
    """Write a texture into `folder`, one file per format (image_files.FORMATS); figures of each, measured on the file.

    `class`, `file`, `format`, `width`, `height`, `bytes`, `seam` (Seam.as_dict, None if it cannot be measured),
    `seamless` (on the axes that wrap).
    """
    x, written = picture(texture, tiles, width), []
    for kind in dict.fromkeys(formats):
        data, file = encode(x, kind, dpi, texture.wraps), folder / (texture.slug + SUFFIXES[kind])
        write(file, data)
        measured = seam_of(decode_picture(data))
        looks = {axis: getattr(measured, axis, None) for axis, wrap in zip("yx", texture.wraps, strict=True) if wrap}
        written.append({
            "class": texture.name, "file": str(file), "format": kind, "width": x.shape[2], "height": x.shape[1],
            "bytes": len(data), "seam": measured and measured.as_dict(),
            "seamless": all(look == "seamless" for look in looks.values()),
        })  # fmt: skip
    return written


def write(file: Path, data: bytes) -> None:
    """Write a file, its folder made if needed. StoreError where that cannot be done."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    except OSError as error:
        raise StoreError(f"{file}: {error}; name a folder that can be written") from None


def sheet(some: Sequence[Texture]) -> Image.Image:
    """3x3 copies of each texture with its name, small enough for one picture."""
    swatches = []
    for one in some:
        height, width = one.x.shape[1:]
        scale = min(1.0, SWATCH / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        small = one.x if scale == 1 else resize(one.x.float(), size, one.wraps).clamp(0, 1)
        swatches.append(Texture(one.name, one.slug, small, one.wraps).tiled(3))
    return grid(torch.stack(swatches), labels=[one.name for one in some])
