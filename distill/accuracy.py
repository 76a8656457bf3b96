"""The accuracy of trained networks on images."""

import torch
from torch import Tensor

from distill.data.base import Split
from distill.inner import InnerStep


def accuracy(step: InnerStep, theta: Tensor, split: Split, batch: int = 1000) -> float:
    """Fraction of a split that theta (p,) classifies correctly."""
    hits = 0
    with torch.no_grad():
        for x, y in zip(split.x.split(batch), split.y.split(batch), strict=True):
            x = x.contiguous(memory_format=torch.channels_last)
            hits += int((step.logits(theta, x).argmax(1) == y).sum())
    return hits / len(split)


def probe(split: Split, most: int = 5000) -> Split:
    """The first so many images of a split: enough to tell the training accuracy of an expert."""
    return Split(split.x[:most], split.y[:most])
