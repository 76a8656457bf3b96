"""PoCO on grids small enough to fill by hand."""

import numpy as np

from distill.order.greedy import anti_diagonals, greedy


def on_a_line(*places: float) -> np.ndarray:
    x = np.array(places, float)
    return np.abs(x[:, None] - x[None])


def test_anti_diagonals_begin_at_their_lower_left_end():
    assert list(anti_diagonals(2, 3)) == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    assert list(anti_diagonals(3, 2)) == [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (2, 1)]
    assert len(set(anti_diagonals(10, 20))) == 200


def test_a_grid_filled_by_hand():
    # Class 0 at 0 is first. (1,0): nearest to 0 is class 2 at 1. (0,1): nearest to 0 of the rest is class 3 at 3.
    # (1,1), between 3 and 1: class 4 at 6 costs 3 + 5. (0,2), beside 3: class 1 at 10. (1,2): class 5 is left.
    assert greedy(on_a_line(0, 10, 1, 3, 6, 20), 2, 3) == [[0, 3, 1], [2, 4, 5]]


def test_the_sum_over_placed_neighbours_decides_not_the_nearest():
    apart = np.full((6, 6), 5.0)
    for a, b, d in ((0, 1, 1), (0, 2, 2), (1, 3, 0.1), (2, 3, 0.9), (1, 4, 0.45), (2, 4, 0.45)):
        apart[a, b] = apart[b, a] = d
    np.fill_diagonal(apart, 0)
    # (1,0) = 1 and (0,1) = 2; for (1,1), class 3 is nearer to 1, but 0.1 + 0.9 is more than class 4's 0.45 + 0.45.
    assert greedy(apart, 2, 3)[1][:2] == [1, 4]


def test_equals_go_by_the_order_of_classes():
    assert greedy(np.ones((6, 6)) - np.eye(6), 2, 3) == [[0, 2, 4], [1, 3, 5]]
