"""Whether compiling pays follows from all the steps that a worker will take."""

import pytest
from support import small

from distill import objectives, synthetic
from distill.engine import compiling


@pytest.mark.parametrize("objective", ["trajectory", "unrolled"])
def test_the_seconds_that_compiling_may_save_are_those_of_all_inner_steps_of_a_worker(objective, monkeypatch):
    seconds = []
    monkeypatch.setattr(compiling, "pays", lambda context, eager: seconds.append(eager))
    for settings in (["outer.steps=3"], ["outer.steps=6"], ["objective.segments=4"],
                     ["objective.segments=4", "outer.workers=2"]):  # fmt: skip
        context = small.context(objective, *settings)
        compiling.compiles(context, objectives.build(context).work(synthetic.blank(context)))
    assert [s / seconds[0] for s in seconds] == pytest.approx([1, 2, 4, 2])
