"""The search for orders against random search at equal trials, where the order score tells the truth and where not."""

import json

import numpy as np
import pytest

from distill.order import layout, score
from distill.order.embeddings import clip_table
from distill.order.search import OrderSearch

ROWS, COLUMNS = 2, 5
_, APART = clip_table.table("cifar10")
TRIALS, SEEDS = 20, 10


def standard(apart: np.ndarray):
    """Order score in standard deviations of random orders: what a truth is made of."""
    drawn = [score(apart, layout(apart, ROWS, COLUMNS, "random", k)) for k in range(200)]
    return lambda grid: (score(apart, grid) - np.mean(drawn)) / np.std(drawn)


def other() -> np.ndarray:
    x = np.random.default_rng(5).normal(size=(10, 3))
    return np.linalg.norm(x[:, None] - x[None], axis=2)


KNOWN, HIDDEN = standard(APART), standard(other())
TRUTHS = {
    "right": KNOWN,
    "as in the paper": lambda grid: 0.76 * KNOWN(grid) + 0.65 * HIDDEN(grid),
    "says nothing": HIDDEN,
    "misleads": lambda grid: -KNOWN(grid),
}


def best(truth, noise: float, seed: int, search: OrderSearch | None) -> float:
    """True value of the order that looked best after TRIALS noisy trials."""
    draw, seen = np.random.default_rng(seed), []
    for number in range(TRIALS):
        grid = search.ask() if search else layout(APART, ROWS, COLUMNS, "random", 1000 * seed + number)
        looks = truth(grid) + noise * draw.normal()
        if search:
            search.tell(grid, looks)
        seen.append((looks, truth(grid)))
    return max(seen)[1]


@pytest.mark.parametrize(
    "prior, margin", [("right", 2.0), ("as in the paper", 1.5), ("says nothing", 0.0), ("misleads", 0.0)]
)
def test_it_beats_random_search_where_the_score_tells_and_is_no_worse_where_it_does_not(prior, margin):
    truth = TRUTHS[prior]
    found = [best(truth, 0.3, seed, OrderSearch(APART, ROWS, COLUMNS, seed)) for seed in range(SEEDS)]
    drawn = [best(truth, 0.3, seed, None) for seed in range(SEEDS)]
    assert np.mean(found) >= np.mean(drawn) + margin, (np.mean(found), np.mean(drawn))


def test_it_begins_with_poco_the_optimal_assignment_and_random_orders():
    search = OrderSearch(APART, ROWS, COLUMNS, 4)
    asked = [search.ask() for _ in range(5)]
    assert asked[0] == layout(APART, ROWS, COLUMNS, "greedy")
    assert asked[1] == layout(APART, ROWS, COLUMNS, "optimal", 4)
    assert len({str(grid) for grid in asked}) == 5
    assert max(KNOWN(grid) for grid in asked[2:]) < KNOWN(asked[0])


def told(search: OrderSearch, trials: int, truth=KNOWN) -> list:
    grids = []
    for _ in range(trials):
        grids.append(search.ask())
        search.tell(grids[-1], truth(grids[-1]))
    return grids


def test_every_grid_holds_every_class_and_none_comes_twice_nor_mirrored():
    grids = told(OrderSearch(APART, ROWS, COLUMNS), 40)
    assert all(sorted(sum(grid, [])) == list(range(10)) for grid in grids)
    kinds = {min(str(g.tolist()) for g in (a, a[::-1], a[:, ::-1], a[::-1, ::-1])) for a in map(np.array, grids)}
    assert len(kinds) == 40


def test_the_fit_learns_from_the_trials():
    right, wrong = OrderSearch(APART, ROWS, COLUMNS), OrderSearch(APART, ROWS, COLUMNS)
    assert right.fit()[0] == 0.76
    told(right, 25)
    told(wrong, 25, TRUTHS["misleads"])
    assert right.fit()[0] == pytest.approx(1, abs=0.1)
    assert wrong.fit()[0] < -0.5


def test_it_goes_on_from_its_state_as_if_it_had_not_been_stopped():
    whole = told(OrderSearch(APART, ROWS, COLUMNS, 1), 14)
    first = OrderSearch(APART, ROWS, COLUMNS, 1)
    told(first, 9)
    state = json.loads(json.dumps(first.state()))
    assert told(OrderSearch(APART, ROWS, COLUMNS, 1).restored(state), 5) == whole[9:]


def test_trials_may_be_out_together_fail_and_come_back_in_any_order():
    search = OrderSearch(APART, ROWS, COLUMNS)
    out = [search.ask() for _ in range(8)]
    search.tell(out[3], 0.5)
    search.tell(out[0], None)
    search.tell(out[1], 0.7)
    assert search.ask() not in out
    with pytest.raises(ValueError, match="is running"):
        search.tell(out[3], 0.5)
    with pytest.raises(ValueError, match="is running"):
        search.tell([[9, 8, 7, 6, 5], [0, 1, 2, 3, 4]], 0.5)


def test_grids_with_fewer_orders_than_trials_are_asked_again():
    apart = np.array([[0.0, 1], [1, 0]])
    assert told(OrderSearch(apart, 1, 2), 6, lambda grid: 1.0)[5] in ([[0, 1]], [[1, 0]])
