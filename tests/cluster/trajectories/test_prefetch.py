"""Snapshots read ahead in the background, and served again from the local disk."""

import threading

import pytest
import torch
from support.stores import Watched
from support.trajectories import record_of, spec_of, theta_of

from cluster.store import open_store
from cluster.store.cache import Cache
from cluster.trajectories import TrajectorySet
from distill.errors import StoreError, TrajectoryError

WAIT = 60  # seconds until a thread that should come is given up


@pytest.fixture
def watched(tmp_path):
    """A watched store with a sealed set of three experts; only reads from now on are noted."""
    store = open_store(f"file:{tmp_path}/store")
    experts = TrajectorySet(store, "set")
    for expert in range(3):
        experts.write_expert(spec_of(), record_of(expert))
    experts.seal(spec_of(), 3)
    return Watched(store)


@pytest.fixture
def reader(watched):
    reader = TrajectorySet(watched, "set").open()
    watched.calls.clear()
    yield reader
    reader.close()


def test_prefetch_returns_before_the_bytes_are_here(watched, reader):
    gate, begun = threading.Event(), threading.Semaphore(0)

    def before(*call):
        begun.release()
        assert gate.wait(WAIT)

    watched.before = before
    reader.prefetch([(0, 0), (1, 2)])
    assert begun.acquire(timeout=WAIT) and begun.acquire(timeout=WAIT)
    gate.set()
    assert torch.equal(reader.snapshot(1, 2), theta_of(1, 2))
    assert torch.equal(reader.snapshot(0, 0), theta_of(0, 0))
    assert len(watched.calls) == 2, "nothing is read twice"


def test_the_next_wishes_do_not_drop_the_ones_in_use(watched, reader):
    reader.prefetch([(0, 0), (0, 1)])
    reader.prefetch([(1, 0), (1, 1), (0, 1)])
    for wish in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        assert torch.equal(reader.snapshot(*wish), theta_of(*wish))
    assert len(watched.calls) == 4


def test_older_wishes_are_let_go(watched, reader):
    for wish in [(0, 0), (0, 1), (0, 2)]:
        reader.prefetch([wish])
        reader.snapshot(*wish)
    reader.snapshot(0, 1)
    assert len(watched.calls) == 3
    reader.snapshot(0, 0)
    assert len(watched.calls) == 4


def test_an_error_comes_from_the_snapshot_and_goes_when_its_cause_does(watched, reader):
    def before(*call):
        raise StoreError("the network is away")

    watched.before = before
    reader.prefetch([(0, 0), (1, 0), (0, 99)])
    with pytest.raises(StoreError, match="network is away"):
        reader.snapshot(0, 0)
    with pytest.raises(TrajectoryError, match="epoch 99"):
        reader.snapshot(0, 99)
    watched.before = lambda *call: None
    assert torch.equal(reader.snapshot(0, 0), theta_of(0, 0))


def test_a_closed_reader_still_reads(watched, reader):
    reader.prefetch([(0, 0)])
    reader.close()
    assert torch.equal(reader.snapshot(0, 1), theta_of(0, 1))
    reader.prefetch([(0, 2)])
    assert torch.equal(reader.snapshot(0, 2), theta_of(0, 2))


def test_repeats_are_served_from_the_disk(watched, tmp_path):
    cache = Cache(tmp_path / "cache")
    first = TrajectorySet(watched, "set").open(cache=cache)
    for expert in range(3):
        first.snapshot(expert, 1)
    assert first.bytes_read == 3 * spec_of().snapshot_bytes
    again = TrajectorySet(watched, "set").open(cache=Cache(tmp_path / "cache"))
    for expert in range(3):
        assert torch.equal(again.snapshot(expert, 1), theta_of(expert, 1))
    assert again.bytes_read == 0
    again.snapshot(0, 2)
    assert again.bytes_read == spec_of().snapshot_bytes


def test_bytes_that_are_wrong_in_the_store_do_not_enter_the_cache(watched, tmp_path):
    path = watched.inner.root / "experts/set/expert-00001.arrow"
    good = path.read_bytes()
    path.write_bytes(good.replace(theta_of(1, 1).numpy().tobytes(), bytes(36)))
    reader = TrajectorySet(watched, "set").open(cache=Cache(tmp_path / "cache"))
    with pytest.raises(TrajectoryError, match="damaged"):
        reader.snapshot(1, 1)
    path.write_bytes(good)
    assert torch.equal(reader.snapshot(1, 1), theta_of(1, 1))
