"""Which images are used, and which of them are held out for validation."""

from dataclasses import replace

import torch
from torch import Tensor

from distill.data.base import Raw
from distill.data.faults import refuse


def limited(raw: Raw, limit: int, limit_test: int) -> Raw:
    """The first `limit` training and `limit_test` test images; 0 means all."""
    return replace(
        raw,
        train_x=raw.train_x[: limit or None],
        train_y=raw.train_y[: limit or None],
        test_x=raw.test_x[: limit_test or None],
        test_y=raw.test_y[: limit_test or None],
    )


def stratified(
    y: Tensor, fraction: float, classes: tuple[str, ...], generator: torch.Generator, where: str
) -> tuple[Tensor, Tensor]:
    """Sorted indices of the remaining training and of the held-out images, each class split alike.

    Of a class with n images round(fraction * n), at least one, are held out. DataError, naming `where`, if there are
    fewer than two classes or a class would have no image left to train on.
    """
    counts = torch.bincount(y, minlength=len(classes)).tolist()
    held = [max(1, round(fraction * n)) for n in counts]
    faults = [
        f"class {name!r} has {n} training images and {h} would be held out: add images, raise dataset.limit, "
        f"or lower dataset.validation"
        for name, n, h in zip(classes, counts, held, strict=True)
        if h >= n
    ]
    if len(classes) < 2:
        faults.append(f"only the class {classes}: a classifier needs two; add images of another class")
    refuse(where, faults)
    validation = torch.zeros(len(y), dtype=torch.bool)
    for label, h in enumerate(held):
        members = (y == label).nonzero().flatten()
        validation[members[torch.randperm(len(members), generator=generator)[:h]]] = True
    return (~validation).nonzero().flatten(), validation.nonzero().flatten()
