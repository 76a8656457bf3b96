"""Every two levels meet in some case, the cases are few, and they are the same every time."""

import itertools

import pytest
from support.pairs import all_pairs

FACTORS = (["sgd", "momentum", "adam"], ["instance", "batch", "group", "layer", "none"], *[[False, True]] * 5)


@pytest.mark.parametrize("factors", [FACTORS, ([1, 2], [3, 4], [5, 6]), ([1, 2, 3], [4, 5])])
def test_every_two_levels_meet(factors):
    cases = all_pairs(*factors)
    for (i, one), (j, other) in itertools.combinations(enumerate(factors), 2):
        assert {(case[i], case[j]) for case in cases} == set(itertools.product(one, other)), (i, j)


def test_the_cases_are_few_and_stay_the_same():
    assert all_pairs(*FACTORS) == all_pairs(*FACTORS)
    assert 15 <= len(all_pairs(*FACTORS)) <= 18  # 3 x 5 is the least; all combinations are 480
    assert len(all_pairs([0, 1], [0, 1], [0, 1])) == 4
