"""Encoded images to one uint8 tensor: `decode` for each image's bytes, `stack` for all of them.

Only PNG, JPEG, WebP and BMP are tried, the sides are checked before pixels are decoded, and transparency is dropped.
Photographs are rotated as their EXIF data says.
"""

import io
import struct
import zlib

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distill.data.size import resize_image
from distill.errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MAX_SIDE = 16384
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
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode(data: bytes, size: int = 0, resize: str = "shorter") -> np.ndarray:
    """One encoded image to uint8 (h, w), grey, or (h, w, 3), RGB; h = w = `size` unless it is 0.

    DataError says why an image is refused.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check(image)
            if size and resize != "none":
                image.draft(None, (2 * size, 2 * size))  # a JPEG is decoded at about this size only
            mode, turn = "L" if image.mode in GREY else "RGB", _turn(image)
            image = image if image.mode == mode else image.convert(mode)
            image = resize_image(image if turn is None else image.transpose(turn), size, resize)
            shape = (image.height, image.width, 3)[: 2 if mode == "L" else 3]
            return np.frombuffer(image.tobytes(), np.uint8).reshape(shape)
    except DataError:
        raise
    except Image.UnidentifiedImageError:
        raise DataError(f"not a {', '.join(FORMATS)} image: encode it again, or remove it") from None
    except BOMB:
        raise DataError(f"more than {MAX_PIXELS >> 20} million pixels: make it smaller") from None
    except DAMAGED as error:
        raise DataError(f"damaged image ({error}): encode it again, or remove it") from None


def _check(image: Image.Image) -> None:
    if max(image.size) > MAX_SIDE:
        raise DataError(f"{image.width}x{image.height} image, more than {MAX_SIDE} pixels a side: make it smaller")
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width}x{image.height} image"
        raise DataError(f"{size}, more than {MAX_PIXELS >> 20} million pixels: make it smaller")
    if image.mode not in GREY | COLOUR:
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
