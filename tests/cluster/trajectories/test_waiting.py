"""Experts that are still being trained: signs of life, waiting for as long as there are some, and the same bytes."""

import hashlib
import logging
import threading
from dataclasses import replace

import pytest
import torch
from support import small
from support.stores import Watched
from support.trajectories import record_of, spec_of

from cluster.store import open_store
from cluster.trajectories import ExpertRecord, SetSpec, TrajectorySet, waiting
from cluster.trajectories import manifest as m
from distill.checkpoint import Checkpoint
from distill.errors import ExpertsMissing
from distill.loop import Loop, Watcher

WAIT = 60  # seconds until a thread that should come is given up


@pytest.fixture
def experts(tmp_path):
    return TrajectorySet(open_store(f"file:{tmp_path}/store"), "set")


def beats(experts: TrajectorySet) -> list[str]:
    return [e.key for e in experts.entries() if m.is_beat(e.key)]


def test_signs_of_life_change_while_training_and_are_gone_after(experts):
    renewed = threading.Semaphore(0)

    def before(operation, key, *_):
        if operation == "delete":
            renewed.release()

    watched = TrajectorySet(Watched(experts.store, before), "set")
    with waiting.training(watched, every=0.001):
        first = beats(experts)
        assert len(first) == 1
        assert renewed.acquire(timeout=WAIT) and renewed.acquire(timeout=WAIT)
        assert first[0] not in beats(experts)
    assert beats(experts) == []


def test_two_that_train_show_two_signs(experts):
    with waiting.training(experts):
        with waiting.training(experts):
            assert len(beats(experts)) == 2
        assert len(beats(experts)) == 1


def test_a_sign_that_could_not_be_written_does_not_end_the_training(experts):
    from distill.errors import StoreError

    refused = threading.Event()

    def before(operation, key, *_):
        if operation == "create" and not key.endswith("-000000"):
            refused.set()
            raise StoreError("the store is away")

    with waiting.training(TrajectorySet(Watched(experts.store, before), "set"), every=0.001):
        assert refused.wait(WAIT)
        assert len(beats(experts)) == 1
    assert beats(experts) == []


def test_what_is_sealed_is_not_waited_for(experts):
    experts.write_expert(spec_of(), record_of(0))
    experts.seal(spec_of(), 1)
    waiting.wait_for(experts, 1, pause=pytest.fail)


def test_nobody_trains_is_said_at_once_with_the_command(experts):
    experts.describe({"recipe": "cifar10-1ipc-small"})
    experts.write_expert(spec_of(), record_of(0))
    told = "1 are trained, 0 of them sealed.*`stillhouse experts cifar10-1ipc-small experts.count=3`.*last checkpoint"
    with pytest.raises(ExpertsMissing, match=f"3 experts are needed, {told}"):
        waiting.wait_for(experts, 3, pause=pytest.fail)


def test_it_waits_while_there_is_life_and_says_how_far_it_is(experts, caplog):
    caplog.set_level(logging.INFO, "stillhouse")
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        experts.store.delete(m.beat_key("set", "0" * 8, len(pauses) - 1), dry_run=False)
        experts.store.create(m.beat_key("set", "0" * 8, len(pauses)), b"")
        if len(pauses) % 40 == 0:  # longer than its patience without a new expert
            experts.write_expert(spec_of(), record_of(len(pauses) // 40 - 1))
        if len(pauses) == 81:
            experts.seal(spec_of(), 2)

    experts.store.create(m.beat_key("set", "0" * 8, 0), b"")
    waiting.wait_for(experts, 2, pause)
    assert len(pauses) == 81
    said = [record.getMessage() for record in caplog.records]
    assert [text.partition(":")[2].partition(" are")[0] for text in said] == [" 0 of 2", " 1 of 2", " 2 of 2"]


def test_a_sign_that_a_killed_process_left_behind_is_known_for_what_it_is(experts):
    experts.store.create(m.beat_key("set", "0" * 8, 7), b"")
    waited = []

    def pause(seconds):
        waited.append(seconds)
        assert sum(waited) <= waiting.PATIENCE_SECONDS

    with pytest.raises(ExpertsMissing, match="no process goes on with them"):
        waiting.wait_for(experts, 1, pause)
    assert sum(waited) == waiting.PATIENCE_SECONDS


# ---------------------------------------------------------------- a run that begins with the first experts

RUN = ("experts.count=4", "outer.steps=6", "objective.segments=2", "outer.checkpoint_every=4", "outer.workers=1")
EARLY = (*RUN, "objective.first_experts=2", "objective.first_steps=3")


class Last(Watcher):
    """Keeps what is saved, as bytes; `at` is called after each step."""

    def __init__(self, at=lambda step: None):
        self.saved: list[bytes] = []
        self.at = at

    def step(self, step, metrics):
        self.at(step)

    def save(self, checkpoint):
        self.saved.append(checkpoint.encode())


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(store, *overrides: str) -> tuple[small.Context, TrajectorySet, SetSpec]:
    """A context, and a set to which expert i of its experts in memory can be written."""
    context = small.context("trajectory", *overrides)
    spec = SetSpec("0" * 16, "0" * 64, {}, list(context.network.layout.entries), context.experts.epochs, "float32")
    return context, TrajectorySet(store, "set"), spec


def write(context, experts, spec, numbers) -> None:
    accuracy = [0.5] * len(spec.epochs)
    for i in numbers:
        experts.write_expert(spec, ExpertRecord(i, context.experts.theta[i], accuracy, accuracy, 0))


def run(context, experts, watcher: Last, checkpoint: bytes | None = None) -> str:
    """Distill with the experts of the set, narrowed as the command does it; SHA-256 of the last checkpoint."""
    reader = experts.open(minimum=2)
    reader.narrow(context.recipe.objective.first_experts or 4)
    loop = Loop(replace(context, experts=reader), watcher)
    if checkpoint:
        loop.resume(Checkpoint.decode(checkpoint, "test"))
    try:
        loop.run()
    finally:
        reader.close()
    return hashlib.sha256(watcher.saved[-1]).hexdigest()


def test_a_run_gives_the_same_bytes_whether_its_experts_were_there_or_came_later(tmp_path, one_thread, monkeypatch):
    context, whole, spec = trained(open_store(f"file:{tmp_path}/whole"), *EARLY)
    write(context, whole, spec, range(4))
    whole.seal(spec, 4)
    expected = run(context, whole, Last())

    context, growing, spec = trained(open_store(f"file:{tmp_path}/growing"), *EARLY)
    write(context, growing, spec, range(2))
    growing.seal(spec, 2)
    paused = []

    def pause(seconds):
        paused.append(seconds)
        write(context, growing, spec, [len(paused) + 1])
        if len(paused) == 2:
            growing.seal(spec, 4)

    monkeypatch.setattr(waiting.wait_for, "__defaults__", (pause,))
    with waiting.training(growing):
        assert run(context, growing, Last()) == expected
    assert len(paused) == 2


def test_a_run_that_nobody_trains_for_stops_saved_and_goes_on_to_the_same_bytes(tmp_path, one_thread):
    context, whole, spec = trained(open_store(f"file:{tmp_path}/whole"), *EARLY)
    write(context, whole, spec, range(4))
    whole.seal(spec, 4)
    expected = run(context, whole, Last())

    context, growing, spec = trained(open_store(f"file:{tmp_path}/growing"), *EARLY)
    write(context, growing, spec, range(2))
    growing.seal(spec, 2)
    watcher = Last()
    with pytest.raises(ExpertsMissing, match="4 experts are needed, 2 are trained"):
        run(context, growing, watcher)
    assert [Checkpoint.decode(data, "test").step for data in watcher.saved] == [3]
    write(context, growing, spec, (2, 3))
    growing.seal(spec, 4)
    assert run(context, growing, Last(), watcher.saved[0]) == expected


def test_early_steps_draw_from_the_first_experts_alone_and_later_ones_from_all(tmp_path):
    from distill import objectives

    context, *_ = trained(open_store(f"file:{tmp_path}/store"), *EARLY)
    objective = objectives.build(context)
    early = {objective._segment(step, s)[0] for step in range(3) for s in range(50)}
    late = {objective._segment(3, s)[0] for s in range(100)}
    assert (early, late) == ({0, 1}, {0, 1, 2, 3})
    plain = objectives.build(small.context("trajectory", *RUN))
    assert [plain._segment(3, s) for s in range(50)] == [objective._segment(3, s) for s in range(50)]
