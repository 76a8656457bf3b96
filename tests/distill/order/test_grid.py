"""Shapes, neighbours and the score of a grid, worked by hand."""

import numpy as np
import pytest

from distill.errors import RecipeError
from distill.order.grid import adjacency, check, neighbours, score, shape_of, total

APART = np.array([[0, 1, 2, 3], [1, 0, 4, 5], [2, 4, 0, 6], [3, 5, 6, 0]], float)


@pytest.mark.parametrize("classes, shape", [(10, (2, 5)), (100, (10, 10)), (200, (10, 20)), (7, (1, 7)), (1, (1, 1))])
def test_the_papers_grids_come_out(classes, shape):
    assert shape_of(classes) == shape


def test_neighbours_share_an_edge():
    pairs = {tuple(pair) for pair in neighbours(2, 3).tolist()}
    assert pairs == {(0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5)}
    near = adjacency(2, 3)
    assert near.sum() == 14 and (near == near.T).all() and near[0, 3] == 1 and near[2, 3] == 0


def test_the_score_is_the_inverse_of_the_summed_distances_of_neighbours():
    # 0 1   pairs 0-1, 2-3, 0-2, 1-3: 1 + 6 + 2 + 5
    # 2 3
    assert total(APART, [[0, 1], [2, 3]]) == 14
    assert score(APART, [[0, 1], [2, 3]]) == pytest.approx(1 / 14)
    assert score(APART, [[0, 1], [3, 2]]) == pytest.approx(1 / (1 + 6 + 3 + 4))
    assert score(APART, [[3, 0, 1, 2]]) == pytest.approx(1 / (3 + 1 + 4))


@pytest.mark.parametrize(
    "apart, shape, named",
    [
        (APART, (2, 3), "6 cells for 4 classes"),
        (APART * np.nan, (2, 2), "finite"),
        (-APART, (2, 2), "negative"),
        (np.triu(APART), (2, 2), "symmetric"),
    ],
)
def test_what_does_not_fit_is_refused(apart, shape, named):
    with pytest.raises(RecipeError, match=named):
        check(apart, *shape)
