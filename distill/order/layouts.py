"""Layouts by name: from class distances and the shape of the grid to the order of classes."""

from collections import Counter
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
    Raises RecipeError for another method, a grid of another size, and invalid distances.
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
    """The grid of an order that the user wrote row by row, as class names or as indices.

    Raises RecipeError that names every entry that is not a class, and every class that is repeated or missing.
    """
    index_of = {entry: index for index, name in enumerate(classes) for entry in (name, index)}
    faults = [f"{entry!r} is not a class" for entry in order if entry not in index_of]
    cells = [index_of[entry] for entry in order if entry in index_of]
    counts = Counter(cells)
    faults += [f"{classes[index]!r} is there {counts[index]} times" for index in sorted(counts) if counts[index] > 1]
    faults += [f"{name!r} is missing" for index, name in enumerate(classes) if index not in counts]
    if faults:
        shown = "; ".join(faults[:20]) + (f"; and {len(faults) - 20} more" if len(faults) > 20 else "")
        raise RecipeError(f"order of {len(order)} entries for {len(classes)} classes: {shown}: list each class once")
    check(np.zeros((len(classes), len(classes))), rows, columns)
    return as_grid(np.array(cells), columns)
