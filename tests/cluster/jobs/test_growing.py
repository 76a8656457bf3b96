"""Experts grown in one process: saved states, going on from them to the same bytes, and what is done with bad ones."""

import hashlib
import json

import pytest
import torch
from support import small
from support.stores import Watched

from cluster.jobs import experts as jobs
from cluster.jobs import growing, partial
from cluster.jobs.events import ExpertEpoch, ExpertResumed, Note
from cluster.jobs.growing import Grower
from cluster.jobs.partial import SavedStates
from cluster.store import open_store
from cluster.trajectories import TrajectorySet, list_sets
from distill import train
from distill.errors import StopRequested, StoreError

FLAT = ["experts.momentum=0.9", "experts.ema=0.9", "experts.sam_rho=0.05", "experts.save_every=2"]


class Killed(Exception):
    """Stands for kill -9."""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def local(tmp_path):
    return open_store(f"file:{tmp_path}/store")


def context(*overrides):
    """6 epochs, a state after every second."""
    return small.context("trajectory", "experts.batch=20", "experts.state_every=2", *overrides)


def own_name(c) -> str:
    return c.recipe.own_experts_name(c.data.fingerprint)


def grower(c, store, events=None, killed_at=None):
    """A grower whose process dies as it tells of an epoch."""

    def post(event):
        if events is not None:
            events.append(event)
        if isinstance(event, ExpertEpoch) and event.epoch == killed_at:
            raise Killed

    return Grower(c, TrajectorySet(store, own_name(c)), jobs.spec_of(c), post)


def hashes(store):
    """SHA-256 of the experts by key."""
    keys = [e.key for e in store.list("experts/") if e.key.endswith(".arrow")]
    return {key: hashlib.sha256(store.read(key)).hexdigest() for key in keys}


def states(store):
    """Keys of the saved states, without the set's name and the digest."""
    return [e.key.partition("partial/")[2].rpartition("-")[0] for e in store.list("experts/") if "/partial/" in e.key]


def resumed(events):
    return [(event.expert, event.epoch) for event in events if isinstance(event, ExpertResumed)]


# ---------------------------------------------------------------- going on


@pytest.mark.parametrize("overrides", [[], [*FLAT, "experts.together=2"], ["experts.together=2"]])
def test_a_killed_expert_goes_on_from_its_last_saved_state_to_the_same_bytes(tmp_path, overrides):
    c = context(*overrides)
    whole, broken = (open_store(f"file:{tmp_path}/{name}") for name in ("whole", "broken"))
    grower(c, whole).grow(0)
    with pytest.raises(Killed):
        grower(c, broken, killed_at=5).grow(0)
    assert states(broken) == ["expert-00000/epoch-00004"] and hashes(broken) == {}
    events = []
    grower(c, broken, events).grow(0)
    together = c.recipe.experts.together
    assert resumed(events) == [(i, 4) for i in range(together)]
    assert sorted({event.epoch for event in events if isinstance(event, ExpertEpoch)}) == [5, 6]
    assert hashes(broken) == hashes(whole) and len(hashes(whole)) == together
    assert states(broken) == []


def test_states_are_saved_as_often_as_asked_and_only_the_last_is_kept(local):
    created = []
    store = Watched(local, lambda operation, key, *_: created.append(key) if operation == "create" else None)
    c = context()
    with pytest.raises(Killed):
        grower(c, store, killed_at=6).grow(1)
    saved = [key.partition("partial/")[2][:24] for key in created if "/partial/" in key]
    assert saved == ["expert-00001/epoch-00002", "expert-00001/epoch-00004"]
    assert states(local) == ["expert-00001/epoch-00004"]
    created.clear()
    grower(context("experts.state_every=0"), store).grow(0)
    assert not any("/partial/" in key for key in created)


# ---------------------------------------------------------------- states that must not be used


def damage(store, key):
    blob = bytearray(store.read(key))
    blob[-1] ^= 1
    store.delete(key, dry_run=False)
    store.create(key, bytes(blob))


def to_another_expert(store, key):
    store.create(key.replace("expert-00000", "expert-00001"), store.read(key))


def to_another_set(store, key):
    name = own_name(context("experts.lr=0.5"))
    store.create(f"experts/{name}/partial/{key.partition('partial/')[2]}", store.read(key))


@pytest.mark.parametrize(
    "spoil, overrides, expert, said",
    [
        (damage, [], 0, "is damaged (SHA-256 differs); not used"),
        (to_another_expert, [], 1, "experts [0]; not used"),
        (to_another_set, ["experts.lr=0.5"], 0, "experts [0]; not used"),
    ],
)
def test_a_damaged_or_foreign_state_is_named_and_not_used(local, tmp_path, spoil, overrides, expert, said):
    with pytest.raises(Killed):
        grower(context(), local, killed_at=5).grow(0)
    (key,) = [e.key for e in local.list("experts/") if "/partial/" in e.key]
    spoil(local, key)
    events = []
    c = context(*overrides)
    grower(c, local, events).grow(expert)
    assert [event for event in events if isinstance(event, Note) and said in event.text]
    assert resumed(events) == []
    clean = open_store(f"file:{tmp_path}/clean")
    grower(c, clean).grow(expert)
    assert hashes(clean).items() <= hashes(local).items()


def test_a_state_that_another_worker_removes_meanwhile_is_no_error(local):
    c = context()
    with pytest.raises(Killed):
        grower(c, local, killed_at=5).grow(0)
    store = Watched(local)
    store.before = lambda operation, key, *_: local.delete(key, dry_run=False) if operation == "read" else None
    found = SavedStates(store, own_name(c), (0,), lambda text: None).latest(torch.device("cpu"))
    assert found is None


# ---------------------------------------------------------------- beside the set


def test_saved_states_are_no_part_of_the_set(local):
    c = context()
    grower(c, local).grow(0)
    with pytest.raises(Killed):
        grower(c, local, killed_at=5).grow(1)
    experts = TrajectorySet(local, own_name(c))
    assert experts.finished() == [0] and list_sets(local) == [experts.name]
    experts.seal(jobs.spec_of(c), 1)
    assert experts.open().count == 1
    grower(c, local).grow(1)
    experts.seal(jobs.spec_of(c), 2)
    assert experts.open().count == 2
    experts.delete(dry_run=False)
    assert local.list("experts/") == []


def test_what_killed_workers_left_of_finished_experts_is_swept_and_the_rest_stays(local):
    c, name = context(), own_name(context())
    for expert in (0, 1):
        with pytest.raises(Killed):
            grower(c, local, killed_at=5).grow(expert)
    partial.sweep(local, name, {0})
    assert states(local) == ["expert-00001/epoch-00004"]


def test_snapshots_are_those_of_the_saved_epochs(local):
    c = context("experts.save_every=4", "objective.expert_epochs=4", "objective.max_start_epoch=1")
    grower(c, local).grow(0)
    experts = TrajectorySet(local, own_name(c))
    experts.seal(jobs.spec_of(c), 1)
    reader = experts.open()
    assert reader.epochs == [0, 4, 6]
    step = train.expert_step(c)
    theta = dict(train.expert_epochs(c, step, 0))
    assert all(torch.equal(reader.snapshot(0, epoch), theta[epoch]) for epoch in reader.epochs)


# ---------------------------------------------------------------- what auto was taken for


def test_a_set_keeps_to_the_choices_it_was_begun_with(local, monkeypatch):
    c = context()
    begun = train.Choices(compiled=False, bf16=True)
    monkeypatch.setattr(train, "choose", lambda context: begun)
    assert growing.choices(c, local, "set") == begun
    monkeypatch.setattr(train, "choose", lambda context: train.Choices(compiled=True, bf16=False))
    assert growing.choices(c, local, "set") == begun
    assert grower(c, local).step.network.bf16 is False, "another set chooses for itself"


def test_damaged_choices_are_named_with_the_fix(local):
    local.create("experts/set/choices.json", json.dumps({"compiled": "yes"}).encode())
    with pytest.raises(StoreError, match="choices.json is damaged; `stillhouse trajectories delete set`"):
        growing.choices(context(), local, "set")


def test_an_expert_that_is_asked_to_stop_saves_its_state_after_the_epoch(local, tmp_path):
    c, whole = context(), open_store(f"file:{tmp_path}/whole")
    grower(c, whole).grow(0)
    asked, events = [], []
    one = grower(c, local)
    one.stopping = lambda: asked.append(None) or len(asked) == 3  # between two scheduled states
    with pytest.raises(StopRequested, match="expert 0 after epoch 3"):
        one.grow(0)
    grower(c, local, events).grow(0)
    assert ExpertResumed(0, 3) in events
    (key,) = [entry.key for entry in whole.list(f"experts/{own_name(c)}") if entry.key.endswith(".arrow")]
    assert local.read(key) == whole.read(key)
