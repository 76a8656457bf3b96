"""Embeddings from the pixels of the training images, which PoDD names as future work (section 6)."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from distill.context import Context

CHUNK = 4096


def mean_colour(context: Context) -> np.ndarray:
    """Mean colour of each class (c, channels), pixels in [0, 1]."""
    return _means(context, lambda x: context.data.preprocess.to_pixels(x).mean((2, 3)))


def mean_image(context: Context) -> np.ndarray:
    """Mean image of each class (c, channels * h * w), pixels in [0, 1]."""
    return _means(context, context.data.preprocess.to_pixels)


def _means(context: Context, embed: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Means of embed(x) over the training images of each class, chunk by chunk."""
    train, sums = context.data.train, None
    for x, y in zip(train.x.split(CHUNK), train.y.split(CHUNK), strict=True):
        with torch.no_grad():
            chunk = _sums(embed(x), y, context.classes)
        sums = chunk if sums is None else sums + chunk
    return (sums / _counts(train.y, context.classes)).cpu().numpy()


def class_means(embedded: Tensor, y: Tensor, classes: int) -> np.ndarray:
    """Mean of the rows of embedded (n, ...) that have each label, flattened (c, d), float64."""
    return (_sums(embedded, y, classes) / _counts(y, classes)).cpu().numpy()


def _sums(embedded: Tensor, y: Tensor, classes: int) -> Tensor:
    """Sums of the rows of embedded (n, ...) that have each label, flattened (c, d), float64."""
    rows = embedded.flatten(1).double()
    return rows.new_zeros(classes, rows.shape[1]).index_add_(0, y, rows)


def _counts(y: Tensor, classes: int) -> Tensor:
    return torch.bincount(y, minlength=classes).double()[:, None]
