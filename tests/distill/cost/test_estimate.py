"""Estimates against hand counts, against memory that the system measures, and advice that is true."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import small

from distill import nets, objectives
from distill.cost import estimate as estimates
from distill.cost import memory
from distill.cost.estimate import estimate, explain_out_of_memory, is_out_of_memory
from distill.cost.memory import PeakMemory, traced
from distill.errors import OutOfMemory, StillhouseError

TESTS = Path(__file__).parents[2]
JUDGING = 5 * 2  # two steps, of networks side by side: after 0 to 3 outer steps, and at the end
SECONDS = {
    "trajectory": 3 * 3 * (1 + 1) + JUDGING,
    "distribution": 3 * (1 + 1 / 3) + JUDGING,
    "unrolled": 3 * (2 * (1 + 1) + (5 - 2) / 2 + 1) + JUDGING,
    "gradient": 3 * (1 + 3 * 1 + 6 / 2) + JUDGING,  # real images; three classes; 6 passes after every other step
}
"""Three outer steps if a forward step and an adjoint step take a second each."""
WIDE = ("network.width=32", "objective.syn_steps=50")


def test_peak_memory_counts_what_lives_at_the_same_time():
    with PeakMemory() as counted:
        a = torch.zeros(1000)  # 4000 bytes
        b = a + 1  # 8000
        a.view(10, 100)[0].add_(1)  # views and in-place writes are nothing new
        del a  # 4000
        c = torch.cat([b, b])  # 12000
        del b, c
        torch.zeros(2500)  # 10000
    assert (counted.peak, counted.now) == (12000, 0)


def test_tracing_computes_nothing_and_counts_the_same():
    def run():
        x = torch.ones(64, 64, requires_grad=True)
        (x @ x).relu().sum().backward()

    with PeakMemory() as counted:
        run()
    assert traced(run) == counted.peak > 3 * 64 * 64 * 4
    assert traced(lambda: torch.ones(1 << 40) @ torch.ones(1 << 40)) >= 2 << 42  # eight terabytes


@pytest.mark.parametrize("kind", ["trajectory", "distribution", "unrolled", "gradient"])
def test_every_objective_has_an_estimate(kind, monkeypatch):
    """Every step is run, and counts as a second."""
    ran = []
    monkeypatch.setattr(estimates._Clock, "_timed", lambda self, step: ran.append(step()) or 1.0)
    context = small.context(kind, "objective.engine.compile=off")
    e = estimate(context)
    assert 0 < e.memory_bytes < 50e6 < e.available_bytes and e.advice == []
    assert ran and e.distill_seconds == pytest.approx(SECONDS[kind])
    p = context.network.layout.size
    pixels = 6 * 3 * 8 * 8 * 4
    experts = 2 * 7 * p * 4 if kind == "trajectory" else 0
    labels = 6 * 3 * 4
    held = sum(t.nbytes for t in objectives.build(context).state_dict().values())
    assert e.storage_bytes == experts + 2 * (3 * pixels + 2 * labels + held)  # set, best set, momentum; two checkpoints
    assert e.experts_seconds == (2 * 6 if kind == "trajectory" else 0)


def test_several_estimates_time_the_steps_of_a_network_once(monkeypatch):
    ran, timed = [], estimates.Timed()
    monkeypatch.setattr(estimates._Clock, "_timed", lambda self, step: ran.append(step) or 1.0)
    first = estimate(small.context("trajectory"), timed)
    once = len(ran)
    again = estimate(small.context("trajectory"), timed)
    assert again.distill_seconds == first.distill_seconds and len(ran) == once > 0
    estimate(small.context("trajectory", "network.width=5"), timed)
    assert len(ran) == 2 * once


def test_memory_grows_by_the_kept_states_and_thinning_keeps_few():
    def needed(*overrides):
        return memory.memory_bytes(small.context("trajectory", *overrides))

    p = small.context("trajectory").network.layout.size * 4
    few, many = (needed(f"objective.syn_steps={n}", "objective.engine.keep=device") for n in (10, 1000))
    assert many - few == 990 * p
    thin = needed("objective.syn_steps=1000", "objective.engine.keep=thin")
    assert 0 < thin - needed("objective.syn_steps=1", "objective.engine.keep=thin") <= 2 * 32 * p


def test_half_of_the_snapshot_s_precision_is_half_of_its_storage():
    full, half = (estimate(small.context("trajectory", f"experts.dtype={d}")) for d in ("float32", "bfloat16"))
    p = small.context("trajectory").network.layout.size
    assert full.storage_bytes - half.storage_bytes == 2 * 7 * p * 2


def test_time_grows_with_the_work(monkeypatch):
    monkeypatch.setattr(estimates._Clock, "_measured", estimates._Clock._counted)  # no clock in a test

    def seconds(kind, *overrides):
        e = estimate(small.context(kind, "objective.engine.compile=off", *overrides))
        return e.distill_seconds, e.experts_seconds

    base = seconds("trajectory", "outer.steps=1000")
    judged = seconds("trajectory", "outer.steps=1000", "outer.evaluate_every=1")[0] - base[0]
    assert judged == pytest.approx(990 * 2 * 8e-3 / 4)  # 990 more judgements of 2 steps, a quarter of an engine step
    assert seconds("trajectory", "outer.steps=1000", "experts.count=4")[1] == pytest.approx(2 * base[1])
    longer = [seconds("trajectory", "outer.steps=1000", f"objective.syn_steps={n}")[0] for n in (3, 6)]
    assert longer[1] - longer[0] == pytest.approx(1000 * 3 * 8e-3)
    unrolled = [seconds("unrolled", "outer.steps=1000", f"objective.unroll={n}")[0] for n in (5, 9)]
    assert unrolled[1] - unrolled[0] == pytest.approx(1000 * 2 * 8e-3 / 4)  # on average half of 4 more forward steps


# ---------------------------------------------------------------- when it does not fit


def test_what_does_not_fit_comes_with_true_advice(monkeypatch):
    context = small.context("trajectory", *WIDE)
    needed = memory.memory_bytes(context)
    monkeypatch.setattr(estimates, "free_host_bytes", lambda: needed - 1)
    e = estimate(context)
    assert e.advice[0] == f"distilling needs {estimates.size(needed)} per worker, {estimates.size(needed - 1)} is free"
    assert {line.split(" saves ")[0] for line in e.advice[1:]} >= {
        "objective.engine.keep=thin",
        "objective.batch_syn=2",
    }
    for line in e.advice[1:]:
        setting, _, rest = line.partition(" saves ")
        changed = small.context("trajectory", *WIDE, setting)
        bf16 = changed.recipe.objective.engine.bf16
        network = nets.build(changed.recipe.network, changed.data.shape, changed.classes, bf16)
        less = needed - memory.memory_bytes(replace(changed, network=network))
        assert rest.startswith(estimates.size(less) + " ")


def test_bfloat16_saves_memory_where_images_rule(monkeypatch):
    context = small.context("trajectory", "network.width=64", "synthetic.ipc=15", "objective.batch_syn=0")
    text = str(explain_out_of_memory(context, RuntimeError("can't allocate memory")))
    assert "objective.engine.bf16=true saves" in text and "objective.batch_syn=22 saves" in text


def test_out_of_memory_is_explained(monkeypatch):
    error = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes\nstack")
    explained = explain_out_of_memory(small.context("trajectory", *WIDE), error)
    assert isinstance(explained, OutOfMemory) and isinstance(explained, StillhouseError)
    assert "you tried 9 bytes)." in str(explained) and "stack" not in str(explained)
    assert "objective.engine.keep=thin saves" in str(explained)


def test_a_real_failure_to_allocate_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


@pytest.mark.parametrize("overrides", [(), ("network.width=64", "network.depth=2")])
def test_an_adjoint_step_fits_into_what_is_taken_for_it(overrides):
    c = small.context("trajectory", *overrides)
    forward = memory.step_bytes(c, estimates.MOMENTUM, 1, adjoint=False)
    assert forward < memory.step_bytes(c, estimates.MOMENTUM, 1) <= estimates.ADJOINT_BYTES * forward


def test_the_clock_is_not_run_where_it_would_not_fit(monkeypatch):
    def refuse(*args):
        raise AssertionError("a step was run that does not fit")

    monkeypatch.setattr(estimates._Clock, "_measured", refuse)
    monkeypatch.setattr(estimates, "free_host_bytes", lambda: 1000)
    e = estimate(small.context("trajectory"))
    assert e.distill_seconds > 0 and e.advice


# ---------------------------------------------------------------- against the operating system


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="resident memory is read from Linux' /proc")
def test_traced_memory_is_what_a_real_step_takes():
    """ConvNet width 32 on 64 images of 32 px: 133 MB. The C library is set to give freed memory back, of which it
    would otherwise keep up to as much again.
    """
    paths = {"PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    environment = {**os.environ, **paths, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, str(TESTS / "support" / "real_step.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected, measured = map(int, done.stdout.split())
    assert expected == pytest.approx(measured, rel=0.05)
