"""Which images are used, which of them test where nobody said so, and which are held out for validation."""

import hashlib
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from distill.data.base import Raw
from distill.data.faults import refuse

IMBALANCE = 10.0
"""How many times as many images as the smallest the largest class may have before it is noted."""


def limited(raw: Raw, limit: int, limit_test: int, limit_class: int = 0) -> Raw:
    """The first `limit` training images, at most the first `limit_class` of each class of them, and the first
    `limit_test` test images; 0 means all."""
    raw = replace(
        raw,
        train_x=raw.train_x[: limit or None],
        train_y=raw.train_y[: limit or None],
        train_group=None if raw.train_group is None else raw.train_group[: limit or None],
        test_x=raw.test_x[: limit_test or None],
        test_y=raw.test_y[: limit_test or None],
    )
    if not limit_class:
        return raw
    first = torch.cat([(raw.train_y == label).nonzero().flatten()[:limit_class] for label in raw.train_y.unique()])
    kept = first.sort().values
    group = None if raw.train_group is None else raw.train_group[kept]
    return replace(raw, train_x=raw.train_x[kept], train_y=raw.train_y[kept], train_group=group)


def imbalance(y: Tensor, classes: tuple[str, ...]) -> str:
    """A note if the largest class of labels `y` has ten times as many images as the smallest; else empty."""
    counts = torch.bincount(y, minlength=len(classes)).tolist()
    some = [n for n in counts if n]
    if not some or max(some) < IMBALANCE * min(some):
        return ""
    least, most = (classes[counts.index(n)] for n in (min(some), max(some)))
    return (
        f"class {least!r} has {min(some)} training images, {most!r} has {max(some)}: the large classes count most; "
        f"dataset.limit_class={min(some) * 3} would cap each class at three times the smallest"
    )


def test_part(names: list[str], y: np.ndarray, fraction: float) -> np.ndarray:
    """Which of n images test, (n,) bool, where a dataset has one part only: round(fraction * size) of each class.

    Of a class of two or more at least one tests and one trains. Images are ranked by the SHA-256 of their names, so
    the choice depends on nothing else, and images that come later hardly change it. `y` are labels, (n,).
    """
    rank = [hashlib.sha256(name.encode("utf8", "surrogateescape")).digest() for name in names]
    tests = np.zeros(len(names), bool)
    for label in np.unique(y):
        members = sorted(np.flatnonzero(y == label), key=rank.__getitem__)
        tests[members[: min(max(1, round(fraction * len(members))), len(members) - 1)]] = True
    return tests


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


def grouped(
    y: Tensor, group: Tensor, fraction: float, classes: tuple[str, ...], generator: torch.Generator, where: str
) -> tuple[Tensor, Tensor]:
    """Sorted indices of the remaining training and of the held-out images, no group `group` (n,) in both.

    Of m groups round(fraction * m), at least one, are held out. DataError, naming `where`, if there are fewer than two
    groups or a class would have no image left to train on.
    """
    groups = group.unique()
    held = groups[torch.randperm(len(groups), generator=generator)[: max(1, round(fraction * len(groups)))]]
    validation = torch.isin(group, held)
    left = torch.bincount(y[~validation], minlength=len(classes)).tolist()
    faults = [
        f"class {name!r} has no training image outside of the {len(held)} of {len(groups)} groups (episodes) that are "
        "held out: add images, raise dataset.limit, or lower dataset.validation"
        for name, n in zip(classes, left, strict=True)
        if n == 0
    ]
    refuse(where, faults)
    return (~validation).nonzero().flatten(), validation.nonzero().flatten()
