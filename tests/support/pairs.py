"""Test cases in which every two levels of different factors meet: far fewer than all combinations.

    CASES = all_pairs(["sgd", "adam"], ["batch", "group", "none"], [False, True])  # 6 instead of 12
    @pytest.mark.parametrize("optimizer, norm, soft", CASES)

What fails at one level, or at two levels together, fails in one of the cases; what needs three together may not.
"""

import itertools
from collections.abc import Hashable, Iterable


def all_pairs(*factors: Iterable[Hashable]) -> list[tuple]:
    """Combinations of one level per factor, the same every time, chosen greedily.

    Each adds the most new pairs and, among those, the most new triples: otherwise the last cases would be all alike.
    """
    combinations = list(itertools.product(*factors))
    pairs, triples = (set().union(*(meetings(c, n) for c in combinations)) for n in (2, 3))
    cases = []
    while pairs:
        case = max(combinations, key=lambda c: (len(meetings(c, 2) & pairs), len(meetings(c, 3) & triples)))
        pairs -= meetings(case, 2)
        triples -= meetings(case, 3)
        cases.append(case)
    return cases


def meetings(case: tuple, n: int) -> set[tuple]:
    """Every n levels ((factor, level), ...) that meet in a case."""
    return set(itertools.combinations(enumerate(case), n))
