"""The accuracy of trained networks on images."""

from collections.abc import Iterable

import torch
from torch import Tensor

from distill.data.base import Split
from distill.engine.inner import InnerStep


def accuracy(
    step: InnerStep, theta: Tensor, split: Split, batch: int = 1000, seen: Iterable[Tensor] | None = None
) -> float:
    """Fraction of a split that theta (p,) classifies correctly.

    `seen` are batches of training images (n, c, h, w), from which batch norms take their statistics; without them they
    take those of the evaluated batches. Other networks ignore them.
    """
    return hits(step, theta, split, batch, statistics(step, theta, seen)) / len(split)


def statistics(step: InnerStep, theta: Tensor, seen: Iterable[Tensor] | None) -> Tensor | None:
    """Batch norm statistics from training images `seen`; None without them, or for networks without batch norms."""
    return None if seen is None else step.network.statistics(theta, seen)


def hits(step: InnerStep, theta: Tensor, split: Split, batch: int = 1000, statistics: Tensor | None = None) -> int:
    """How many images of a split theta (p,) classifies correctly."""
    right = 0
    with torch.no_grad():
        for x, y in zip(split.x.split(batch), split.y.split(batch), strict=True):
            x = x.contiguous(memory_format=torch.channels_last)
            right += int((step.logits(theta, x, statistics).argmax(1) == y).sum())
    return right


def probe(split: Split, most: int = 5000) -> Split:
    """The first `most` images of a split: enough to estimate the training accuracy of an expert."""
    return Split(split.x[:most], split.y[:most])
