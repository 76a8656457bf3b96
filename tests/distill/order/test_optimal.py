"""The optimal layout against every order there is, and against greedy where there are too many."""

from itertools import permutations

import numpy as np
import pytest

from distill.order import layout, optimal, score
from distill.order.embeddings import clip_table
from distill.order.grid import adjacency, total
from distill.order.optimal import swap_costs


def random_distances(classes: int, seed: int, levels: int = 0) -> np.ndarray:
    """Symmetric, zero diagonal; `levels` > 0 makes many equal."""
    draw = np.random.default_rng(seed)
    x = draw.integers(1, levels + 1, (classes, classes)) if levels else draw.random((classes, classes))
    return np.triu(x, 1) + np.triu(x, 1).T.astype(float)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(2, 3), (1, 6), (2, 2), (1, 2), (1, 1)])
def test_no_order_is_better(shape, seed):
    apart = random_distances(shape[0] * shape[1], seed)
    least = min(total(apart, np.reshape(order, shape)) for order in permutations(range(len(apart))))
    assert total(apart, layout(apart, *shape, "optimal")) == pytest.approx(least)


@pytest.mark.parametrize("shape", [(1, 3), (2, 4), (3, 3), (2, 5), (4, 5), (3, 8)])
@pytest.mark.parametrize("levels", [0, 2])
def test_it_scores_at_least_as_well_as_greedy(shape, levels):
    for seed in range(5):
        apart = random_distances(shape[0] * shape[1], seed, levels)
        grid = layout(apart, *shape, "optimal", seed)
        assert sorted(k for row in grid for k in row) == list(range(len(apart)))
        assert score(apart, grid) >= score(apart, layout(apart, *shape, "greedy"))


@pytest.mark.parametrize("name, gain", [("cifar10", 1.1), ("cifar100", 1.08)])
def test_it_is_clearly_better_on_the_shipped_tables(name, gain):
    classes, apart = clip_table.table(name)
    shape = {10: (2, 5), 100: (10, 10)}[len(classes)]
    assert score(apart, layout(apart, *shape, "optimal")) > gain * score(apart, layout(apart, *shape, "greedy"))


def test_the_cost_of_every_swap_is_the_difference_it_makes():
    apart, near = random_distances(6, 0), adjacency(2, 3)
    order = np.array([3, 1, 5, 0, 2, 4])
    costs = swap_costs(near, apart, order)
    for a in range(6):
        for b in range(6):
            swapped = order.copy()
            swapped[[a, b]] = swapped[[b, a]]
            made = total(apart, swapped.reshape(2, 3)) - total(apart, order.reshape(2, 3))
            assert costs[a, b] == pytest.approx(made, abs=1e-12), (a, b)


def test_the_same_seed_gives_the_same_grid():
    apart = random_distances(30, 1)
    assert layout(apart, 5, 6, "optimal", 3) == layout(apart, 5, 6, "optimal", 3)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
def test_swaps_end_whatever_the_unit_of_the_distances(scale, monkeypatch):
    calls = 0

    def counted(*arguments):
        nonlocal calls
        calls += 1
        assert calls < 500, "swaps are undone and made again for ever"
        return swap_costs(*arguments)

    monkeypatch.setattr(optimal, "swap_costs", counted)
    for seed in range(300):  # many equal distances: among 300 draws some make rounding look like a gain
        draw, calls = np.random.default_rng(seed), 0
        above = np.triu(draw.integers(1, 4, (20, 20)), 1) * 0.1 * scale
        optimal.swapped(adjacency(4, 5), above + above.T, draw.permutation(20))
