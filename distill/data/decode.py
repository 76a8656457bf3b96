"""Encoded images to one uint8 tensor: `decode` for each image's bytes, `stack` for all of them.

Only the formats below are tried, the number of pixels is checked before they are decoded, and transparency is dropped.
Of an animation or of pages the first is taken. Photographs are rotated as their EXIF data says. `decode_picture` reads
a picture as it looks, for measuring it.
"""

import importlib.util
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from distill.data.size import LONGEST, resize_image
from distill.errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
"""As Pillow calls them; AVIF and HEIC are read too if this machine's Pillow or pillow-heif can."""
MODERN = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIF", b"heix": "HEIF", b"heim": "HEIF", b"heis": "HEIF",
          b"hevc": "HEIF", b"mif1": "HEIF", b"msf1": "HEIF"}  # fmt: skip
"""Formats by the brand that follows `ftyp` in a file's first bytes."""
MAX_SIDE = 16384  # of arrays and of textures that are written
MAX_PIXELS = 64 << 20
"""Cameras have up to 61 million; an image that claims more is refused as a decompression bomb."""
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that sets an image upright, by its EXIF orientation."""
GREY = {"1", "L", "LA"}
COLOUR = {"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr"}
DEEP = {"I;16", "I;16B", "I"}
"""Grey of 16 bits; `I` is how some versions of Pillow open it."""
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode(
    data: bytes, size: int = 0, resize: str = "shorter", note: Callable[[str], None] = lambda text: None
) -> np.ndarray:
    """One encoded image to uint8 (h, w), grey, or (h, w, 3), RGB; h = w = `size` unless it is 0.

    `note` is called with what is unusual about an image that is read. DataError says why an image is refused.
    """
    with _opened(data, GREY | COLOUR) as image:
        if size and resize != "stretch" and max(image.size) > LONGEST * min(image.size):
            note(f"{image.width}x{image.height}")
        if size and resize != "none":
            image.draft(None, (2 * size, 2 * size))  # a JPEG is decoded at about this size only
        mode, turn = "L" if image.mode in GREY else "RGB", _turn(image)
        image = image if image.mode == mode else image.convert(mode)
        image = resize_image(image if turn is None else image.transpose(turn), size, resize)
        shape = (image.height, image.width, 3)[: 2 if mode == "L" else 3]
        return np.frombuffer(image.tobytes(), np.uint8).reshape(shape)


def decode_picture(data: bytes) -> Tensor:
    """One encoded picture to float32 (1 or 3, h, w) in [0, 1], as it looks on white paper.

    Grey keeps 16 bits; Pillow reads RGB of 16 bits at 8. DataError says why a picture is refused.
    """
    with _opened(data, GREY | COLOUR | DEEP) as image:
        if max(image.size) > MAX_SIDE:
            raise DataError(f"{image.width}x{image.height} image, more than {MAX_SIDE} pixels a side: make it smaller")
        turn, deep = _turn(image), image.mode in DEEP
        if not deep and image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
        elif not deep:
            image = image.convert("L" if image.mode in GREY else "RGB")
        levels = np.asarray(image if turn is None else image.transpose(turn))
        x = torch.from_numpy(levels.astype(np.float32)) / (65535 if deep else 255)
        return x[None] if x.ndim == 2 else x.permute(2, 0, 1)


@contextmanager
def _opened(data: bytes, modes: set[str]) -> Iterator[Image.Image]:
    """The image, its sides and mode checked before its pixels are decoded; Pillow's errors as DataErrors."""
    try:
        with Image.open(io.BytesIO(data), formats=(*FORMATS, *_modern(data))) as image:
            _check(image, modes)
            yield image
    except DataError:
        raise
    except Image.UnidentifiedImageError:
        kinds = "PNG, JPEG, WebP, BMP, TIFF, GIF, AVIF or HEIC"
        raise DataError(f"not a {kinds} image: encode it again, or remove it") from None
    except BOMB:
        raise DataError(f"more than {MAX_PIXELS >> 20} million pixels: make it smaller") from None
    except DAMAGED as error:
        raise DataError(f"damaged image ({error}): encode it again, or remove it") from None


def _modern(data: bytes) -> tuple[str, ...]:
    """The format of an AVIF or HEIC image, so that Pillow tries it. DataError if what reads it is not installed."""
    kind = MODERN.get(data[8:12]) if data[4:8] == b"ftyp" else None
    if kind is None or (kind == "AVIF" and features.check("avif")):
        return (kind,) if kind else ()
    if importlib.util.find_spec("pillow_heif") is None:
        name = "AVIF" if kind == "AVIF" else "HEIC"
        raise DataError(f"{name} image: `pip install 'stillhouse[heic]'` to read it, or convert it to JPEG")
    import pillow_heif

    pillow_heif.register_heif_opener()
    return ("HEIF",)


def _check(image: Image.Image, modes: set[str]) -> None:
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width}x{image.height} image"
        raise DataError(f"{size}, more than {MAX_PIXELS >> 20} million pixels: make it smaller")
    if image.mode not in modes:
        raise DataError(f"image of mode {image.mode}, not 8 bits a channel: convert it to RGB or 8-bit grey")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """The transposition that sets the image upright; None if its EXIF data are missing or invalid, as in viewers."""
    try:
        return UPRIGHT.get(image.getexif().get(ORIENTATION))
    except (*DAMAGED, TypeError, LookupError):
        return None


def stack(images: list[np.ndarray], rgb: bool) -> Tensor:
    """Images of one size, (h, w) or (h, w, 3), to uint8 (n, c, h, w) with c = 3 if `rgb`, else 1."""
    h, w = images[0].shape[:2]
    out = np.empty((len(images), 3 if rgb else 1, h, w), np.uint8)
    for row, image in zip(out, images, strict=True):
        row[:] = image.transpose(2, 0, 1) if image.ndim == 3 else image  # grey fills all channels
    return torch.from_numpy(out)
