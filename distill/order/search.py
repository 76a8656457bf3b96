"""A search for an order of classes by trials, each of which distills a poster: few, expensive and noisy.

    search = OrderSearch(distances, rows, columns, seed)
    grid = search.ask()                # several trials may run at a time
    search.tell(grid, accuracy)        # higher is better; None if the trial failed

It starts from PoCO's grid, the optimal assignment and random ones, then breeds the best orders so far by swaps and
crossover. Of many children it tries the one with the highest predicted value: a linear fit of the trials' values on
the order score (PoDD, section 5.3: correlation 0.76), plus a share of its parent's residual.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from distill.order.grid import Grid, neighbours, score
from distill.order.layouts import layout
from distill.rng import generator

RANDOM_STARTS = 3
CHILDREN = 100  # candidates for each trial
PARENTS = 0.25  # best share of the trials, which have children
SWAPS = 3  # at most, in a child
CROSSOVERS = 0.3  # share of the children
FRESH = 0.15  # share of the trials that are random orders, so that the fit sees poor scores too
PUBLISHED, TRUST = 0.76, 4.0  # the paper's correlation counts as much as this many trials
SCORED = 200  # random orders that give the mean and deviation of scores


@dataclass(frozen=True)
class OrderTrial:
    """An order (c,) that `ask` returned, and its value: None before `tell`, and if the trial failed."""

    order: tuple[int, ...]
    value: float | None = None


class OrderSearch:
    """Proposes grids of classes and learns from their values. The same seed and answers give the same questions."""

    def __init__(self, distances: np.ndarray, rows: int, columns: int, seed: int = 0):
        """`distances` (c, c) between classes, c = rows * columns. RecipeError if they do not fit the grid."""
        self.distances, self.rows, self.columns, self.seed = distances, rows, columns, seed
        self.trials: list[OrderTrial] = []
        self._first = [layout(distances, rows, columns, method, seed) for method in ("greedy", "optimal")]
        drawn = [score(distances, layout(distances, rows, columns, "random", k)) for k in range(SCORED)]
        self._mean, self._spread = float(np.mean(drawn)), float(np.std(drawn)) or 1.0

    def ask(self) -> Grid:
        """The next grid to try, not one that was returned before, nor a mirror image of one, while there are others."""
        g = generator(self.seed, "order search", len(self.trials))
        grid = self._start() or self._fresh(g) or self._best_child(g)
        self.trials.append(OrderTrial(_flat(grid)))
        return grid

    def tell(self, grid: Grid, value: float | None) -> None:
        """The value of a grid; higher is better, None if its trial failed. ValueError if no trial of it is running."""
        waiting = [i for i, trial in enumerate(self.trials) if trial.order == _flat(grid) and trial.value is None]
        if not waiting:
            raise ValueError(f"no trial of the order {_flat(grid)} is running")
        self.trials[waiting[0]] = OrderTrial(_flat(grid), value)

    def state(self) -> dict:
        """What `restored` needs to continue, as JSON values."""
        return {"trials": [[list(trial.order), trial.value] for trial in self.trials]}

    def restored(self, state: dict) -> "OrderSearch":
        """This search with the trials of a state."""
        self.trials = [OrderTrial(tuple(order), value) for order, value in state["trials"]]
        return self

    def fit(self) -> tuple[float, float]:
        """(slope, intercept) of value on order score, in standard deviations of random orders' scores.

        Least squares, the slope drawn towards the paper's correlation with the weight of TRUST trials.
        """
        finished = self._finished()
        values = np.array([trial.value for trial in finished])
        scores = np.array([self._standard(trial.order) for trial in finished])
        if len(finished) < 2:
            return PUBLISHED, float(values.mean()) if finished else 0.0
        centred, spread = scores - scores.mean(), values.std() or 1.0
        slope = (centred @ (values - values.mean()) + TRUST * PUBLISHED * spread) / (centred @ centred + TRUST)
        return float(slope), float(values.mean() - slope * scores.mean())

    # ------------------------------------------------------------ proposals

    def _start(self) -> Grid | None:
        """The first trials: PoCO, the optimal assignment if it differs, and a few random orders."""
        grids = [*self._first, *(self._random(k) for k in range(RANDOM_STARTS))]
        return next((grid for grid in grids if not self._seen(grid)), None)

    def _fresh(self, g: torch.Generator) -> Grid | None:
        """A random order for a share FRESH of the trials; always while no trial has a value."""
        if self._finished() and torch.rand((), generator=g) >= FRESH:
            return None
        return self._random(RANDOM_STARTS + len(self.trials))

    def _random(self, number: int) -> Grid:
        g = generator(self.seed, "random order", number)
        return torch.randperm(len(self.distances), generator=g).view(self.rows, self.columns).tolist()

    def _best_child(self, g: torch.Generator) -> Grid:
        children = sorted(self._children(g), key=lambda child: -child[1])
        return next((grid for grid, _ in children if not self._seen(grid)), children[0][0])

    def _children(self, g: torch.Generator) -> Iterator[tuple[Grid, float]]:
        """(grid, predicted value) of children of the best trials."""
        slope, intercept = self.fit()
        ranked = sorted(self._finished(), key=lambda trial: -trial.value)
        parents = ranked[: max(2, round(PARENTS * len(ranked)))]
        for _ in range(CHILDREN):
            one, other = (parents[int(i)] for i in torch.randint(len(parents), (2,), generator=g))
            crossed = one is not other and torch.rand((), generator=g) < CROSSOVERS
            child = self._crossed(one.order, other.order, g) if crossed else self._swapped(one.order, g)
            expected = intercept + slope * self._standard(child)
            residual = one.value - intercept - slope * self._standard(one.order)
            yield self._grid(child), expected + residual * self._shared(one.order, child)

    def _swapped(self, order: tuple[int, ...], g: torch.Generator) -> tuple[int, ...]:
        """The order with one to SWAPS pairs of cells swapped."""
        child = list(order)
        for _ in range(1 + int(torch.randint(SWAPS, (), generator=g))):
            a, b = torch.randint(len(child), (2,), generator=g).tolist()
            child[a], child[b] = child[b], child[a]
        return tuple(child)

    def _crossed(self, one: tuple[int, ...], other: tuple[int, ...], g: torch.Generator) -> tuple[int, ...]:
        """A rectangle of cells from `other`, the rest from `one`; gaps are filled in the order of `one`."""
        inside = np.zeros((self.rows, self.columns), bool)
        top, left = (int(torch.randint(n, (), generator=g)) for n in (self.rows, self.columns))
        high, wide = (1 + int(torch.randint(n, (), generator=g)) for n in (self.rows - top, self.columns - left))
        inside[top : top + high, left : left + wide] = True
        taken = {k for k, there in zip(other, inside.ravel(), strict=True) if there}
        child = [
            b if there else (a if a not in taken else -1)
            for a, b, there in zip(one, other, inside.ravel(), strict=True)
        ]
        left_over = iter(k for k in one if k not in set(child))
        return tuple(k if k >= 0 else next(left_over) for k in child)

    # ------------------------------------------------------------ orders and their trials

    def _finished(self) -> list[OrderTrial]:
        return [trial for trial in self.trials if trial.value is not None]

    def _standard(self, order: tuple[int, ...]) -> float:
        """Order score in standard deviations from the mean of random orders."""
        return (score(self.distances, self._grid(order)) - self._mean) / self._spread

    def _shared(self, parent: tuple[int, ...], child: tuple[int, ...]) -> float:
        """Share of the parent's neighbours that are neighbours in the child."""
        before, after = self._pairs(parent), self._pairs(child)
        return len(before & after) / max(1, len(before))

    def _pairs(self, order: tuple[int, ...]) -> set[frozenset[int]]:
        return {frozenset((order[a], order[b])) for a, b in neighbours(self.rows, self.columns).tolist()}

    def _seen(self, grid: Grid) -> bool:
        """Whether `ask` returned this grid before, or a mirrored or rotated one."""
        tried = {trial.order for trial in self.trials}
        return any(_flat(same) in tried for same in _symmetries(np.array(grid)))

    def _grid(self, order: tuple[int, ...]) -> Grid:
        return np.array(order).reshape(self.rows, self.columns).tolist()


def _flat(grid) -> tuple[int, ...]:
    return tuple(np.asarray(grid).ravel().tolist())


def _symmetries(grid: np.ndarray) -> list[np.ndarray]:
    """The grids with the same neighbours: mirror images, and quarter turns of a square one."""
    flips = [grid, grid[::-1], grid[:, ::-1], grid[::-1, ::-1]]
    return flips + [flip.T for flip in flips] if len(set(grid.shape)) == 1 else flips
