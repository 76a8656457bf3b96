"""The override that halves the time of a run: it does, and leaves a quarter of everything."""

import pytest
from support import small

from distill.cost.estimate import Estimate
from distill.cost.halving import halving, parts

BEFORE = {"outer.steps": 100, "evaluation.epochs": 100, "experts.count": 8}


@pytest.mark.parametrize("experts, steps, judging", [(900, 50, 50), (10, 900, 90), (10, 90, 900), (300, 300, 300)])
def test_overrides_halve_the_time_and_leave_a_quarter_of_everything(experts, steps, judging):
    values = [f"{path}={value}" for path, value in BEFORE.items()]
    context = small.context("trajectory", *values, "experts.epochs=5")
    estimate = Estimate(0, 0, steps + judging, judging, experts, 0, [])
    assert parts(estimate) == {"experts": experts, "steps": steps, "judgements": judging}
    left = dict(zip(BEFORE, (steps, judging, experts), strict=True))
    for override in halving(context, estimate).split():
        path, _, value = override.partition("=")
        assert 0.24 <= int(value) / BEFORE[path] < 1
        left[path] *= int(value) / BEFORE[path]
    assert 0.4 < sum(left.values()) / (experts + steps + judging) < 0.56
