"""Embeddings from what the training images look like, which PoDD names as future work (section 6)."""

import numpy as np
import torch
from torch import Tensor

from distill.context import Context

CHUNK = 4096


def mean_colour(context: Context) -> np.ndarray:
    """Mean colour of each class (c, channels), pixels in [0, 1]."""
    return class_means(context, lambda x: context.data.to_pixels(x).mean((2, 3)))


def mean_image(context: Context) -> np.ndarray:
    """Mean image of each class (c, channels * h * w), pixels in [0, 1]."""
    return class_means(context, context.data.to_pixels)


def class_means(context: Context, embed) -> np.ndarray:
    """Mean of embed(x) over the training images of each class, flattened (c, d), float64."""
    train, sums = context.data.train, None
    for x, y in zip(train.x.split(CHUNK), train.y.split(CHUNK), strict=True):
        with torch.no_grad():
            embedded: Tensor = embed(x).flatten(1).double()  # (n, d)
        sums = embedded.new_zeros(context.classes, embedded.shape[1]) if sums is None else sums
        sums.index_add_(0, y, embedded)
    counts = torch.bincount(train.y, minlength=context.classes).double()
    return (sums / counts[:, None]).cpu().numpy()
