"""The best order that a search finds: a quadratic assignment from several starts, each improved by swaps.

Which class on which cell makes the sum of neighbouring distances smallest is a quadratic assignment problem: the
adjacency of cells times the distances of classes. It is NP-hard, so the result is the best of the starts, of which
PoCO's greedy grid is one.
"""

import numpy as np
import torch
from scipy.optimize import quadratic_assignment

from distill.order.greedy import greedy
from distill.order.grid import Grid, adjacency, as_grid, total
from distill.rng import generator

RANDOM_STARTS = 4
KICKS = 500  # times that the best order is perturbed and improved again
KICKED_CELLS = 8
SLACK = 1e-9  # a swap that gains less than this share of the largest distance is rounding, and might repeat for ever


def optimal(distances: np.ndarray, rows: int, columns: int, seed: int = 0) -> Grid:
    """The order with the smallest sum of neighbouring distances of all starts; at least as good as greedy.

    `distances` is (c, c), c = rows * columns. The same seed gives the same grid.
    """
    near = adjacency(rows, columns)
    draw = np.random.default_rng(int(torch.randint(2**62, (), generator=generator(seed, "optimal order"))))
    poco = np.array(greedy(distances, rows, columns)).ravel()
    starts = [poco, *_assignments(near, distances, poco, draw)]

    def cost(order: np.ndarray) -> float:
        return total(distances, order.reshape(rows, columns))

    best = min((swapped(near, distances, start) for start in starts), key=cost)
    for _ in range(KICKS):
        kicked = swapped(near, distances, _kick(best, draw))
        if cost(kicked) < cost(best):
            best = kicked
    return as_grid(best, columns)


def swapped(near: np.ndarray, distances: np.ndarray, order: np.ndarray) -> np.ndarray:
    """`order` (c,) after the best swap of two cells, again and again until no swap makes it better."""
    order, slack = order.copy(), SLACK * distances.max()
    while True:
        gain = swap_costs(near, distances, order)
        first, second = np.unravel_index(gain.argmin(), gain.shape)
        if gain[first, second] >= -slack:
            return order
        order[[first, second]] = order[[second, first]]


def swap_costs(near: np.ndarray, distances: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(c, c): what swapping the classes of two cells adds to the sum of neighbouring distances.

    Cell r loses the distances of its class to its neighbours and gets those of the class of s, and vice versa; if r
    and s are neighbours, the distance between them stays.
    """
    by_cell = distances[np.ix_(order, order)]  # (c, c)
    at = near @ by_cell  # at[r, s]: the class of s, if it were among the neighbours of r
    own = np.diag(at)
    return at + at.T - own[:, None] - own[None, :] + 2 * near * by_cell


def _assignments(near: np.ndarray, distances: np.ndarray, poco: np.ndarray, draw: np.random.Generator):
    """Orders from SciPy's fast approximate quadratic assignment: from the middle, near PoCO, and from random points."""
    middle = np.full_like(near, 1 / len(near))
    starts = [middle, (np.eye(len(near))[poco] + middle) / 2, *["randomized"] * RANDOM_STARTS]
    for start in starts:
        yield quadratic_assignment(near, distances, method="faq", options={"P0": start, "rng": draw}).col_ind


def _kick(order: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """The order with the classes of a few random cells shuffled among them."""
    kicked = order.copy()
    cells = draw.choice(len(order), min(KICKED_CELLS, len(order)), replace=False)
    kicked[cells] = order[draw.permutation(cells)]
    return kicked
