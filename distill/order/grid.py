"""The grid of classes on a poster: its shape, which cells are neighbours, and the score of an order."""

import math
from functools import cache

import numpy as np

from distill.errors import RecipeError

Grid = list[list[int]]
"""Class indices, row by row from the top left; every class once."""


def shape_of(classes: int) -> tuple[int, int]:
    """(rows, columns) of the grid of `classes` cells that is nearest to a square and at least as wide as high.

    The paper's shapes come out: 2 x 5 for 10 classes, 10 x 10 for 100, 10 x 20 for 200 (PoDD, section 5.1).
    """
    rows = next(rows for rows in range(math.isqrt(classes), 0, -1) if classes % rows == 0)
    return rows, classes // rows


@cache
def neighbours(rows: int, columns: int) -> np.ndarray:
    """Pairs of cells (pairs, 2) that share an edge; a cell is row * columns + column."""
    cell = np.arange(rows * columns).reshape(rows, columns)
    beside = np.stack([cell[:, :-1].ravel(), cell[:, 1:].ravel()], 1)
    below = np.stack([cell[:-1].ravel(), cell[1:].ravel()], 1)
    pairs = np.concatenate([beside, below])
    pairs.flags.writeable = False  # every caller gets the same array
    return pairs


def adjacency(rows: int, columns: int) -> np.ndarray:
    """Symmetric 0/1 matrix (cells, cells) of neighbours."""
    matrix = np.zeros((rows * columns, rows * columns))
    first, second = neighbours(rows, columns).T
    matrix[first, second] = matrix[second, first] = 1
    return matrix


def total(distances: np.ndarray, grid: Grid | np.ndarray) -> float:
    """Sum of the distances (c, c) between the classes of all neighbouring cells."""
    cells = np.asarray(grid)
    first, second = cells.ravel()[neighbours(*cells.shape)].T
    return float(distances[first, second].sum())


def score(distances: np.ndarray, grid: Grid) -> float:
    """How similar neighbours are: the inverse of the sum of distances between neighbouring classes; higher is better.

    PoDD, section 5.3, found a correlation of 0.76 between it and the accuracy of a poster. Infinite if every pair
    of neighbours has distance 0.
    """
    distance = total(distances, grid)
    return 1 / distance if distance else math.inf


def check(distances: np.ndarray, rows: int, columns: int) -> None:
    """Raise RecipeError unless the distances (c, c) are symmetric and not negative and the grid holds each class once.

    The user can fix these: the shape of the grid, and embeddings that are not numbers.
    """
    classes = len(distances)
    if rows * columns != classes:
        raise RecipeError(
            f"a class grid of {rows} rows and {columns} columns has {rows * columns} cells for {classes} classes: "
            f"give a grid with one cell for each class, such as {' x '.join(map(str, shape_of(classes)))}"
        )
    assert distances.shape == (classes, classes), distances.shape
    if not np.isfinite(distances).all() or (distances < 0).any():
        raise RecipeError("distances between classes must be finite and not negative: check the embedding for NaN")
    if not np.array_equal(distances, distances.T):
        raise RecipeError("distances between classes must be symmetric: correct them, or give embeddings instead")


def as_grid(cells: np.ndarray, columns: int) -> Grid:
    """A flat order (c,) of class indices as rows."""
    return np.asarray(cells).reshape(-1, columns).tolist()
