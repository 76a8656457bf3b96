"""Real and synthetic images of each class, for objectives that compare the two class by class."""

import torch
from torch import Tensor


def rows_of_classes(y: Tensor, classes: int) -> list[Tensor]:
    """For each class, the rows (m,) of labels y (n,) that have it."""
    return [(y == k).nonzero().flatten() for k in range(classes)]


def some_rows(rows: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Up to `most` different ones of rows (m,), at random."""
    return rows[torch.randperm(len(rows), generator=generator)[:most].to(rows.device)]


def items_of_classes(y: Tensor) -> dict[int, Tensor]:
    """The items (m,) that represent each class, by labels y (n, classes): those whose most likely class it is.

    So each item is rendered once, unless classes tie. A class that is never the most likely is represented by the items
    with its highest probability; a class without any probability is left out.
    """
    y = y.detach()
    top = (y == y.amax(1, keepdim=True)) & (y > 0)
    highest = (y == y.amax(0, keepdim=True)) & (y > 0)
    member = torch.where(top.any(0), top, highest)
    return {k: member[:, k].nonzero().flatten() for k in range(y.shape[1]) if member[:, k].any()}
