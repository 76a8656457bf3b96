"""Whether compiling pays follows from all the steps that a worker will take."""

import pytest
from support import small

from distill import objectives, synthetic
from distill.engine import compiling, unroll
from distill.objectives import Pass, Work


@pytest.mark.parametrize("objective", ["trajectory", "unrolled"])
def test_the_seconds_that_compiling_may_save_are_those_of_all_inner_steps_of_a_worker(objective, monkeypatch):
    seconds = []
    monkeypatch.setattr(compiling, "pays", lambda context, eager: seconds.append(eager))
    for settings in (["outer.steps=3"], ["outer.steps=6"], ["objective.segments=4"],
                     ["objective.segments=4", "outer.workers=2"]):  # fmt: skip
        context = small.context(objective, *settings)
        compiling.compiles(context, objectives.build(context).work(synthetic.blank(context)))
    assert [s / seconds[0] for s in seconds] == pytest.approx([1, 2, 4, 2])


def test_without_inner_training_they_are_those_of_the_passes(monkeypatch):
    seconds = []
    monkeypatch.setattr(compiling, "pays", lambda context, eager: seconds.append(eager))
    context = small.context("distribution", "outer.steps=5")
    compiling.compiles(context, Work(2, passes=(Pass(10, gradient=True), Pass(20))))
    flops = compiling.forward_flops(context.network, context.data.shape)
    assert seconds == pytest.approx([2 * 5 * flops * (3 * 10 + 20) / compiling.FLOPS_PER_SECOND])


def test_passes_of_networks_with_batch_norm_are_not_compiled(monkeypatch):
    """They take all images at once, whose number changes with learned labels."""
    monkeypatch.setattr(compiling, "pays", lambda context, eager: True)
    for norm, expected in (("instance", True), ("batch", False)):
        context = small.context("distribution", f"network.norm={norm}")
        assert compiling.compiles(context, Work(1, passes=(Pass(10, gradient=True),))) is expected


def test_the_segments_of_a_worker_share_the_memory_for_what_is_kept():
    for segments, vectorize, share in ((1, "off", 1), (4, "off", 4), (4, "on", 1)):
        settings = f"objective.segments={segments}", f"objective.engine.vectorize={vectorize}"
        context = small.context("trajectory", "objective.engine.memory=1000", *settings)
        work = objectives.build(context).work(synthetic.blank(context))
        assert compiling.engine(context, work).memory == 1000 // share
    automatic = small.context("trajectory")
    work = objectives.build(automatic).work(synthetic.blank(automatic))
    assert 2**20 < compiling.engine(automatic, work).memory < unroll.free_bytes(automatic.device)
