"""Whether compiling pays follows from all the steps that a worker will take."""

from types import SimpleNamespace

import pytest
import torch
from support import small

from distill import nets, objectives, recipe, synthetic
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


def test_what_a_pass_writes_is_counted_for_every_operation_but_not_for_views():
    class Two(torch.nn.Module):
        def forward(self, x):
            return (2 * x + 1).flatten(1)

    network = SimpleNamespace(module=Two(), layout=SimpleNamespace(entries=[]))
    assert compiling.forward_written(network, (3, 4, 5)) == 2 * 60
    assert compiling.forward_flops(network, (3, 4, 5)) == 0


def test_narrow_networks_are_as_slow_as_what_they_write_and_wide_ones_as_their_arithmetic():
    """A core took 243 ms for a step of 30 images at width 32, of which their arithmetic would take a tenth."""
    seconds, flops = {}, {}
    for width in (32, 1024):
        network = nets.build(recipe.ConvNet(depth=3, width=width), (3, 32, 32), 10)
        seconds[width] = compiling.eager_seconds(network, (3, 32, 32), 30)
        flops[width] = 30 * compiling.STEP_FLOPS * compiling.forward_flops(network, (3, 32, 32))
    assert 0.1 < seconds[32] < 0.25 and seconds[32] > 2 * flops[32] / compiling.FLOPS_PER_SECOND
    assert seconds[1024] == pytest.approx(flops[1024] / compiling.FLOPS_PER_SECOND)


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
