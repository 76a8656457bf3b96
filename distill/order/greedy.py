"""PoCO: the greedy fill of the class grid along its anti-diagonals."""

from collections.abc import Iterator

import numpy as np

from distill.order.grid import Grid


def greedy(distances: np.ndarray, rows: int, columns: int) -> Grid:
    """Fill a grid with the classes of `distances` (c, c), c = rows * columns; PoDD, section 4.2, algorithm 2.

    Class 0 goes to the top left. Then, along the anti-diagonals, each from its lower left end upwards, a cell takes
    the remaining class with the smallest summed distance to the classes already placed above it and to its left; the
    first of equals wins.
    """
    grid = np.full((rows, columns), -1)
    remaining = list(range(len(distances)))
    for row, column in anti_diagonals(rows, columns):
        placed = [grid[r, c] for r, c in ((row - 1, column), (row, column - 1)) if r >= 0 and c >= 0]
        cost = distances[np.ix_(remaining, placed)].sum(1)  # (remaining,), all 0 for the first cell
        grid[row, column] = remaining.pop(int(cost.argmin()))
    return grid.tolist()


def anti_diagonals(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """(row, column) of all cells, one anti-diagonal after another from the top left."""
    for diagonal in range(rows + columns - 1):
        lowest, highest = min(rows - 1, diagonal), max(0, diagonal - columns + 1)
        for row in range(lowest, highest - 1, -1):
            yield row, diagonal - row
