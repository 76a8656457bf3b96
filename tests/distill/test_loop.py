"""The outer loop: every pair runs, resumes to the same bytes, shares work exactly, stops on NaN, keeps the best set.

STILLHOUSE_WRITE_GOLDEN=1 python -m pytest tests/distill/test_loop.py -k golden    # writes tests/golden/losses.json
"""

import gc
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file
from support import small
from support.two_workers import finish

from distill import loop as loops
from distill import recipe, train
from distill.checkpoint import Checkpoint
from distill.errors import DivergedError, StopRequested
from distill.evaluate import Score
from distill.loop import Loop, Watcher

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden" / "losses.json"


def kinds(settings) -> list[str]:
    """The kinds of a union of settings blocks, or of a single block."""
    union = get_args(settings)[0] if get_args(settings) else settings
    return [block.model_fields["kind"].default for block in get_args(union) or (union,)]


OBJECTIVES = kinds(recipe.ObjectiveSettings)
SYNTHETICS = kinds(recipe.SyntheticSettings)


class Recorder(Watcher):
    """Remembers everything it is told."""

    def __init__(self):
        self.losses, self.saved, self.judgements, self.pictures = [], [], [], []

    def step(self, step, metrics):
        self.losses.append(metrics["loss"])

    def save(self, checkpoint):
        self.saved.append(Checkpoint.decode(checkpoint.encode(), "test"))  # a checkpoint shares the loop's tensors

    def judged(self, step, score, best):
        self.judgements.append((step, score.mean, best))

    def picture(self, step, images):
        self.pictures.append(step)

    def last_saved(self):
        return f"checkpoint-{self.saved[-1].step:06d}" if self.saved else "none"


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ---------------------------------------------------------------- every pair


class Cycles(Watcher):
    """Tensors that only Python's search for cycles would free, which is rare: what each step leaves stays for long."""

    def __init__(self):
        self.tensors: list[tuple[int, ...]] = []

    def step(self, step, metrics):
        gc.collect()
        self.tensors += [tuple(o.shape) for o in gc.garbage if isinstance(o, torch.Tensor)] if step > 1 else []
        gc.garbage.clear()
        gc.set_debug(gc.DEBUG_SAVEALL)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("synthetic", ["pixels", "poster", "generator"])
def test_a_step_leaves_no_tensors_behind(synthetic, objective):
    only = [] if synthetic == "pixels" else ["synthetic={}", f"synthetic.kind={synthetic}"]
    cycles = Cycles()
    loop = Loop(small.context(objective, *only), cycles)
    gc.disable()
    try:
        loop.run()
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not cycles.tensors


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("synthetic", SYNTHETICS)
def test_every_pair_runs_a_step_that_moves_the_set(synthetic, objective):
    only = [] if synthetic == "pixels" else ["synthetic={}", f"synthetic.kind={synthetic}"]
    recorder = Recorder()
    loop = Loop(small.context(objective, "outer.steps=1", *only), recorder)
    before = [p.detach().clone() for p in loop.parameters]
    loop.run()
    assert recorder.losses[0] > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, loop.synthetic.parameters(), strict=False))
    assert all(torch.isfinite(p).all() for p in loop.parameters)


# ---------------------------------------------------------------- resume

RESUMED = {
    "trajectory": ["synthetic.labels.mode=learned", "synthetic.labels.lr=0.1", "objective.segments=2"],
    "distribution": ["outer.optimizer=adam", "outer.lr_img=0.1"],
    "unrolled": ["outer.optimizer=adam", "outer.lr_img=0.01", "objective.pool=2", "synthetic.labels.mode=learned"],
    "gradient": ["objective.outer_loop=3", "objective.segments=2", "synthetic.labels.mode=learned"],
    "adversarial": ["synthetic={}", "synthetic.kind=generator", "outer.lr_img=0.01", "objective.features=experts"],
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_resume_gives_the_bytes_of_an_uninterrupted_run(objective, one_thread):
    settings = ["outer.steps=6", "outer.checkpoint_every=2", "outer.evaluate_every=3", *RESUMED.get(objective, [])]
    whole = Recorder()
    Loop(small.context(objective, *settings), whole).run()
    assert [c.step for c in whole.saved] == [2, 4, 6]
    for checkpoint in whole.saved[:2]:
        rest = Recorder()
        loop = Loop(small.context(objective, *settings), rest)
        loop.resume(checkpoint)
        loop.run()
        assert rest.losses == whole.losses[checkpoint.step :]
        assert sha256(rest.saved[-1]) == sha256(whole.saved[-1])


def test_slow_steps_are_saved_by_the_clock_and_resumed_to_the_same_bytes(monkeypatch, one_thread):
    slow, rest = Recorder(), Recorder()
    monkeypatch.setattr(loops, "SAVE_SECONDS", -1.0)
    Loop(small.context("distribution"), slow).run()
    assert [c.step for c in slow.saved] == [1, 2, 3], "outer.checkpoint_every is 100"
    monkeypatch.undo()
    loop = Loop(small.context("distribution"), rest)
    loop.resume(slow.saved[0])
    loop.run()
    assert [c.step for c in rest.saved] == [3] and sha256(rest.saved[0]) == sha256(slow.saved[2])


def test_two_minutes_are_counted_from_the_last_checkpoint(monkeypatch):
    class Slow(Recorder):
        def step(self, step, metrics):
            seconds[0] += 70

    seconds, slow = [0.0], Slow()
    monkeypatch.setattr(loops, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    Loop(small.context("distribution", "outer.steps=7", "outer.checkpoint_every=5"), slow).run()
    assert [c.step for c in slow.saved] == [2, 4, 5, 7]


def sha256(checkpoint):
    return hashlib.sha256(checkpoint.encode()).hexdigest()


# ---------------------------------------------------------------- workers


def test_two_workers_of_one_segment_make_the_update_of_one_worker_with_two(tmp_path):
    """In float64, over three steps; unrolled also clips, which must see the sum over workers."""
    shared = ["objective.segments=2", "outer.steps=3", "outer.lr_img=0.1"]
    jobs = {kind: shared for kind in OBJECTIVES if kind != "unrolled"} | {"unrolled": [*shared, "objective.clip=0.5"]}
    both_workers(tmp_path, {kind: [*settings, "outer.workers=2"] for kind, settings in jobs.items()})
    for kind, settings in jobs.items():
        try:
            alone = finish(kind, settings)
        finally:
            torch.set_default_dtype(torch.float32)
        first, second = (load_file(tmp_path / f"{kind}-{rank}.safetensors") for rank in range(2))
        assert first.keys() == second.keys() == alone.keys()
        for name, value in alone.items():
            assert torch.equal(first[name], second[name]), name
            assert torch.allclose(first[name], value, rtol=1e-9, atol=1e-12), name
    assert alone["objective.norm"] > 0.5 * alone["objective.norm_mean"] > 0  # the last job has clipped


def both_workers(folder, jobs):
    """Run jobs (objective to overrides) in two processes that sum their gradients; they write into the folder."""
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "support" / "two_workers.py")]
    rest = ["2", str(folder / "meet"), str(folder), json.dumps(jobs)]
    workers = [subprocess.Popen([*command, str(rank), *rest], env=environment) for rank in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]


# ---------------------------------------------------------------- NaN


def poison_loss(loop):
    honest = loop.objective.loss
    loop.objective.loss = lambda *args: honest(*args) * float("nan")


def poison_pixels(loop):
    loop.synthetic.x.register_hook(lambda g: g * float("inf"))


def poison_rate(loop):
    loop.objective.lr.register_hook(lambda g: g * float("nan"))


@pytest.mark.parametrize("poison, named", [(poison_loss, r"loss, x, .*lr"), (poison_pixels, "x"), (poison_rate, "lr")])
def test_nan_stops_the_run_and_names_what_when_and_the_last_good_checkpoint(poison, named):
    recorder = Recorder()
    loop = Loop(small.context("trajectory", "outer.steps=9", "outer.checkpoint_every=2"), recorder)
    recorder.step = lambda step, metrics: poison(loop) if step == 3 else None
    with pytest.raises(DivergedError, match=rf"in {named} at step 4; last good checkpoint: checkpoint-000002\."):
        loop.run()
    assert [c.step for c in recorder.saved] == [2]
    assert all(torch.isfinite(t).all() for t in recorder.saved[0].tensors.values())


# ---------------------------------------------------------------- what is kept


def test_the_best_set_is_kept_with_the_rate_it_had(monkeypatch):
    scores = iter([0.1, 0.3, 0.8, 0.5])
    settings = ["outer.steps=3", "outer.evaluate_every=1", "objective.lr_lr=1e-4"]
    recorder = Recorder()
    loop = Loop(small.context("trajectory", *settings), recorder)
    states, rates = [], []

    def score(*args):
        states.append(loop.synthetic.x.detach().clone())
        rates.append(loop.objective.student_lr)
        return Score((next(scores),))

    monkeypatch.setattr(loop.judge, "score", score)
    best = loop.run()
    assert recorder.judgements == [(0, 0.1, True), (1, 0.3, True), (2, 0.8, True), (3, 0.5, False)]
    assert (best.step, best.score, best.student_lr) == (2, 0.8, rates[2])
    assert torch.equal(best.state["x"], states[2]) and not torch.equal(states[2], states[3])
    assert len(set(rates)) == 4
    again = Loop(small.context("trajectory", *settings), Watcher())
    again.resume(recorder.saved[-1])
    assert (again.best.step, again.best.score, again.best.student_lr) == (2, 0.8, rates[2])
    assert torch.equal(again.best.state["x"], states[2])


def test_it_is_judged_shown_and_saved_as_often_as_the_recipe_says():
    recorder = Recorder()
    settings = ["outer.steps=5", "outer.evaluate_every=2", "outer.picture_every=3", "outer.checkpoint_every=4"]
    Loop(small.context("distribution", *settings), recorder).run()
    assert [step for step, _, _ in recorder.judgements] == [0, 2, 4, 5]
    assert recorder.pictures == [0, 3, 5]
    assert [c.step for c in recorder.saved] == [4, 5]


BRIEF = ["outer.steps=12", "outer.evaluate_every=100", "outer.checkpoint_every=5", "outer.picture_every=100"]


def test_a_run_with_fewer_steps_than_to_its_first_judgement_is_judged_on_its_way():
    recorder = Recorder()
    loop = Loop(small.context("distribution", *BRIEF), recorder)
    loop.run()
    assert [step for step, _, _ in recorder.judgements] == [0, 2, 4, 6, 8, 10, 12]
    best = max(score for _, score, _ in recorder.judgements)
    assert loop.selected.score == best
    assert loop.selected.step == next(step for step, score, _ in recorder.judgements if score == best)
    assert [step for step, _, won in recorder.judgements if won][-1] == loop.selected.step


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_very_brief_runs_are_judged_after_every_step(steps):
    recorder = Recorder()
    Loop(small.context("distribution", *BRIEF, f"outer.steps={steps}"), recorder).run()
    assert [step for step, _, _ in recorder.judgements] == list(range(steps + 1))


def test_judgements_on_the_way_survive_a_kill_but_are_no_part_of_a_longer_run(one_thread):
    recorder = Recorder()
    whole = Loop(small.context("distribution", *BRIEF), recorder)
    whole.judge.score = lambda synthetic, lr, split, n, *key: Score((0.9 if key[-1] == 2 else 0.5,))  # 2 is the best
    whole.run()
    after_5 = recorder.saved[0]
    assert after_5.step == 5 and whole.selected.step == 2
    again = Loop(small.context("distribution", *BRIEF), Recorder())
    again.judge.score = whole.judge.score
    again.resume(after_5)
    again.run()
    assert again.selected.step == 2 and again.selected.score == 0.9
    assert all(torch.equal(whole.selected.state[k], v) for k, v in again.selected.state.items())
    longer = Loop(small.context("distribution", *BRIEF, "outer.steps=200"), Recorder())
    longer.resume(after_5)
    assert longer.end is None and longer.selected.step == 0


# ---------------------------------------------------------------- golden losses


def golden_context(objective):
    """A slice of the digits, a real expert of three epochs, 20 outer steps."""
    c = small.context(
        objective,
        *["objective.max_start_epoch=1"] * (objective == "trajectory"),
        "outer.steps=20",
        "network.depth=2",
        "network.width=8",
        "synthetic.ipc=1",
        "experts.count=1",
        "experts.epochs=3",
        "experts.batch=64",
        digits=400,
    )
    snapshots = [theta for _, theta in train.expert_epochs(c, train.expert_step(c), 0)]
    experts = small.MemoryExperts(c.network, 1, 3)
    experts.theta = torch.stack(snapshots)[None]
    return replace(c, experts=experts)


@pytest.mark.parametrize("objective", ["trajectory", "unrolled", "distribution", "gradient"])
def test_golden_losses_do_not_move(objective, one_thread):
    """Within 1e-5: equal to the bit on one machine; other instruction sets and thread counts move them up to 6e-7."""
    recorder = Recorder()
    Loop(golden_context(objective), recorder).run()
    if os.environ.get("STILLHOUSE_WRITE_GOLDEN"):
        known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        GOLDEN.write_text(json.dumps({**known, objective: recorder.losses}, indent=1) + "\n")
    assert recorder.losses == pytest.approx(json.loads(GOLDEN.read_text())[objective], rel=1e-5)


# ---------------------------------------------------------------- stopping


class Stopping(Recorder):
    """Asks the loop to stop after a step."""

    def __init__(self, after: int):
        super().__init__()
        self.after = after

    def stopping(self):
        return len(self.losses) == self.after


@pytest.mark.parametrize("rank, stops", [(0, True), (1, False)])
def test_a_loop_that_is_asked_to_stop_saves_after_its_step(rank, stops, one_thread):
    """Between two scheduled checkpoints, and on the first worker alone; the other is stopped from outside."""
    context = small.context("trajectory", "outer.steps=5", "outer.evaluate_every=2", "objective.segments=2", digits=60)
    whole, stopped = Recorder(), Stopping(after=3)
    Loop(context, whole).run()
    loop = Loop(context, stopped, rank, 1 + rank)
    if not stops:
        loop.run()
        assert loop.done == 5 and stopped.saved == []
        return
    with pytest.raises(StopRequested, match="step 3"):
        loop.run()
    assert [saved.step for saved in stopped.saved] == [3]
    again = Recorder()
    resumed = Loop(context, again)
    resumed.resume(stopped.saved[-1])
    resumed.run()
    assert again.saved[-1].encode() == whole.saved[-1].encode()


def test_a_loop_that_is_asked_to_stop_after_its_last_step_has_ended(one_thread):
    stopped = Stopping(after=2)
    Loop(small.context("distribution", "outer.steps=2", digits=60), stopped).run()
    assert [saved.step for saved in stopped.saved] == [2]


# ---------------------------------------------------------------- a deadline


def test_a_run_cut_short_is_the_shorter_run_and_can_be_continued(one_thread, monkeypatch):
    settings = ["outer.checkpoint_every=4", "outer.evaluate_every=1"]
    short, long = (Loop(small.context("trajectory", f"outer.steps={n}", *settings), Recorder()) for n in (3, 6))
    short.run(), long.run()
    recorder = Recorder()
    cut = Loop(small.context("trajectory", "outer.steps=6", *settings), recorder, deadline=0.0)
    monkeypatch.setattr(cut, "_late", lambda: cut.done == 3)
    cut.run()
    assert cut.context.run_id == short.context.run_id
    assert cut.selected.step == short.selected.step
    for name, value in cut.selected.state.items():
        assert torch.equal(value, short.selected.state[name])
    (kept,) = recorder.saved
    assert kept.step == 3 and kept.run_id == long.context.run_id
    rest = Loop(small.context("trajectory", "outer.steps=6", *settings), Recorder())
    rest.resume(kept)
    rest.run()
    assert sha256(rest.watcher.saved[-1]) == sha256(long.watcher.saved[-1])


def test_a_deadline_leaves_time_for_the_final_judgement():
    loop = Loop(small.context("trajectory", "evaluation.networks=4"), Watcher(), deadline=time.monotonic() + 100)
    loop.judging_seconds = 15  # then 1 judgement and 4 networks take 75 s
    assert not loop._late()
    loop.judging_seconds = 25
    assert loop._late()
    assert 4 < loop.at_last - loop.deadline <= 5  # the final judgement may be late by a twentieth
    loop.deadline = None
    assert not loop._late()
    assert Loop(small.context("trajectory"), Watcher()).at_last == math.inf


def test_a_run_whose_time_is_over_still_takes_a_step_and_is_judged():
    recorder = Recorder()
    Loop(small.context("trajectory", "outer.steps=6"), recorder, deadline=0.0).run()
    assert len(recorder.losses) == 1 and [step for step, _, _ in recorder.judgements] == [0, 1]


def test_a_run_that_is_continued_up_to_a_deadline_knows_how_long_it_judges_from_its_start(one_thread):
    context, first = small.context("trajectory", "outer.steps=6", "outer.checkpoint_every=2"), Recorder()
    Loop(context, first).run()
    recorder, known = Recorder(), []
    resumed = Loop(context, recorder, deadline=time.monotonic() + 3600)
    resumed.resume(first.saved[0])
    recorder.step = lambda step, metrics: known.append(resumed.judging_seconds)
    resumed.run()
    assert len(known) == 4 and min(known) > 0
    assert [step for step, _, _ in recorder.judgements] == [3, 4, 5, 6], "the one that was timed is not kept"
    assert sha256(recorder.saved[-1]) == sha256(first.saved[-1])
