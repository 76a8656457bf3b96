"""Resizing to the side that a recipe sets: `resize_image` for one image, `resize_dataset` for arrays."""

from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distill.data.base import Raw
from distill.errors import DataError
from distill.recipe import DatasetSettings

LONGEST = 16  # times the shorter side


def resize_image(image: Image.Image, size: int, resize: str) -> Image.Image:
    """An 8-bit grey or RGB image at `size` x `size` pixels (0: unchanged), by Pillow's antialiased bilinear filter.

    `resize` is "shorter" (the shorter side becomes `size`, the centre is cut out), "stretch" (both sides become it) or
    "none" (the centre is cut out). If one side is more than 16 times the other, the central square is cut out before
    resizing, since the resized whole would be huge. DataError if the image is too small to cut from.
    """
    w, h = image.size
    if not size or (w, h) == (size, size):
        return image
    if resize == "stretch":
        return image.resize((size, size), Image.Resampling.BILINEAR)
    if resize == "shorter" and max(w, h) > LONGEST * min(w, h):
        return resize_image(_centre(image, min(w, h)), size, resize)
    if resize == "shorter":
        w, h = (round(side * size / min(image.size)) for side in image.size)
        image = image.resize((w, h), Image.Resampling.BILINEAR)
    if min(w, h) < size:
        raise DataError(
            f'{w}x{h} image is smaller than dataset.size = {size}: lower it or set dataset.resize="shorter"'
        )
    return _centre(image, size)


def _centre(image: Image.Image, side: int) -> Image.Image:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def resize_dataset(raw: Raw, settings: DatasetSettings) -> Raw:
    """The dataset with its images at `settings.size`; the same object if they have it already."""
    if not settings.size or tuple(raw.train_x.shape[2:]) == (settings.size, settings.size):
        return raw
    train, test = (_resized(x, settings.size, settings.resize) for x in (raw.train_x, raw.test_x))
    return replace(raw, train_x=train, test_x=test)


def _resized(x: Tensor, size: int, resize: str) -> Tensor:
    """uint8 images (n, 1 or 3, h, w) to (n, 1 or 3, size, size)."""
    out = torch.empty((*x.shape[:2], size, size), dtype=torch.uint8)
    for row, image in zip(out, x, strict=True):
        array = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        small = np.array(resize_image(Image.fromarray(array.contiguous().numpy()), size, resize))
        row.copy_(torch.from_numpy(small if small.ndim == 2 else small.transpose(2, 0, 1)))
    return out
