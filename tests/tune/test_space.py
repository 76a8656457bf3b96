"""Distributions: what numbers in [0, 1) become, and orders from random keys."""

import itertools

import pytest

from tune.space import Choice, Permutation, Range, Whole, describe, flatten, names, values_of


@pytest.mark.parametrize(
    ("distribution", "u", "value"),
    [
        (Choice(values=["a", "b", "c"]), 0.0, "a"),
        (Choice(values=["a", "b", "c"]), 0.999, "c"),
        (Range(low=2, high=4), 0.25, 2.5),
        (Range(kind="loguniform", low=1e-4, high=1e-2), 0.5, pytest.approx(1e-3)),
        (Whole(low=3, high=5), 0.0, 3),
        (Whole(low=3, high=5), 0.999, 5),
        (Whole(low=1, high=100, log=True), 0.0, 1),
        (Whole(low=1, high=100, log=True), 0.9999, 100),
    ],
)
def test_numbers_become_values(distribution, u, value):
    assert distribution.pick(u) == value


def test_every_whole_number_is_drawn_equally_often():
    d = Whole(low=3, high=6)
    drawn = [d.pick(i / 400) for i in range(400)]
    assert {v: drawn.count(v) for v in set(drawn)} == {3: 100, 4: 100, 5: 100, 6: 100}


def test_keys_make_every_order():
    d = Permutation(items=["a", "b", "c"])
    orders = {tuple(d.order(list(keys))) for keys in itertools.permutations([0.1, 0.5, 0.9])}
    assert len(orders) == 6
    assert d.order([0.9, 0.1, 0.5]) == ["b", "c", "a"]


def test_a_point_becomes_recipe_values():
    space = {"a.b": Choice(values=[10, 20]), "c": Range(low=0, high=1), "d": Permutation(items=[1, 2])}
    assert names(space) == ["a.b", "c", "d#0", "d#1"]
    assert values_of(space, {"a.b": 1, "c": 0.5, "d#0": 0.7, "d#1": 0.2}) == {"a.b": 20, "c": 0.5, "d": [2, 1]}


def test_tables_become_dotted_paths():
    assert flatten({"a": {"b": {"kind": "x"}, "c": {"d": {"kind": "y"}}}, "e.f": {"kind": "z"}}) == {
        "a.b": {"kind": "x"},
        "a.c.d": {"kind": "y"},
        "e.f": {"kind": "z"},
    }


def test_distributions_in_words():
    assert describe(Range(kind="loguniform", low=0.1, high=10)) == "0.1 to 10, logarithmic"
    assert describe(Choice(values=[1, 2])) == "1, 2"
    assert describe(Permutation(items=[1, 2, 3])) == "any order of 3"
