"""Layouts by name, and orders that are given."""

import numpy as np
import pytest

from distill.errors import RecipeError
from distill.order import given, layout

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")


def test_random_depends_on_the_seed_alone():
    first, again, other = (layout(np.zeros((12, 12)), 3, 4, "random", seed) for seed in (0, 0, 1))
    assert first == again != other
    assert sorted(k for row in first for k in row) == list(range(12)) and [len(row) for row in first] == [4, 4, 4]


@pytest.mark.parametrize(
    "order", [["cat", "bee", "ant", "fox", "eel", "dog"], [2, 1, 0, 5, 4, 3], ["cat", 1, 0, "fox", 4, 3]]
)
def test_an_order_is_given_by_names_or_indices(order):
    assert given(order, NAMES, 2, 3) == [[2, 1, 0], [5, 4, 3]]


def test_names_that_look_like_numbers_are_names():
    assert given(["2", "0", "1"], ("0", "1", "2"), 1, 3) == [[2, 0, 1]]


def test_every_fault_of_a_given_order_is_named():
    with pytest.raises(RecipeError) as refused:
        given(["cat", "cat", "gnu", "ant", 9, -1], NAMES, 2, 3)
    for named in (
        "'gnu' is not a class",
        "9 is not a class",
        "-1 is not a class",
        "'cat' is there 2 times",
        "'bee' is missing",
    ):
        assert named in str(refused.value)


def test_a_grid_of_another_size_or_an_unknown_layout_is_refused():
    with pytest.raises(RecipeError, match="8 cells for 6 classes"):
        given(list(NAMES), NAMES, 2, 4)
    with pytest.raises(RecipeError, match="greedy, optimal, random"):
        layout(np.zeros((6, 6)), 2, 3, "spiral")
