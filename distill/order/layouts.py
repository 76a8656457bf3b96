"""Layouts by name: a matrix of class distances and the shape of the grid in, the order of classes out."""

from collections.abc import Sequence

import numpy as np
import torch

from distill.errors import RecipeError
from distill.order.greedy import greedy
from distill.order.grid import Grid, as_grid, check
from distill.order.optimal import optimal
from distill.rng import generator

LAYOUTS = ("greedy", "optimal", "random")


def layout(distances: np.ndarray, rows: int, columns: int, method: str = "greedy", seed: int = 0) -> Grid:
    """The grid that `method` makes of class distances (c, c), c = rows * columns.

    greedy: the paper's PoCO; optimal: assignment and swaps, never worse than greedy; random: drawn from the seed.
    Raises RecipeError for another method, a grid of another size, and distances that are not.
    """
    if method not in LAYOUTS:
        raise RecipeError(f"no layout {method!r}: use one of {', '.join(LAYOUTS)}, or give the order itself")
    check(distances, rows, columns)
    if method == "greedy":
        return greedy(distances, rows, columns)
    if method == "optimal":
        return optimal(distances, rows, columns, seed)
    return as_grid(torch.randperm(len(distances), generator=generator(seed, "class order")).numpy(), columns)


def given(order: Sequence[str | int], classes: Sequence[str], rows: int, columns: int) -> Grid:
    """The grid of an order that was given row by row, as class names or as indices.

    Raises RecipeError that names every entry that is no class, every class that comes twice and every one left out.
    """
    names = {name: index for index, name in enumerate(classes)}
    found = [names.get(entry) if isinstance(entry, str) else _index(entry, len(classes)) for entry in order]
    known = [index for index in found if index is not None]
    faults = [f"{entry!r} is no class" for entry, index in zip(order, found, strict=True) if index is None]
    faults += [
        f"{classes[index]!r} comes {known.count(index)} times" for index in sorted(set(known)) if known.count(index) > 1
    ]
    faults += [f"{name!r} is missing" for name, index in names.items() if index not in known]
    if faults:
        shown = "; ".join(faults[:20]) + (f"; and {len(faults) - 20} more" if len(faults) > 20 else "")
        raise RecipeError(f"order of {len(order)} entries for {len(classes)} classes: {shown}: list each class once")
    check(np.zeros((len(classes), len(classes))), rows, columns)
    return as_grid(np.array(known), columns)


def _index(entry: int, classes: int) -> int | None:
    return entry if 0 <= entry < classes else None
