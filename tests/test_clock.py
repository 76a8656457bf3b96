"""The wall clock is set by hours, forth and back, while work runs: durations and deadlines do not notice."""

import ast
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from support import small
from support.boards import LocalBoard

import cluster
import distill
import tune
from cluster import patience
from cluster.jobs import experts, group
from cluster.jobs.board import Board
from cluster.jobs.group import Worker
from cluster.results.status import rate
from cluster.stack import processes
from cluster.store import base, open_store, s3
from cluster.store.local import LocalStore
from cluster.store.s3 import S3Store
from distill.loop import Loop, Watcher

HOURS = 3600.0
STAMPS = {
    "cluster/jobs/metrics.py": "Prometheus subtracts it from its own time()",
    "cluster/jobs/progress.py": "the time of a line of the log",
    "cluster/results/status.py": "beside the times of MLflow's metrics",
    "cluster/store/local.py": "beside the times of files; whose writer lives is asked too",
    "cluster/tracking/run.py": "the time of a metric",
    "distill/data/cache.py": "beside the times of files",
    "distill/disk_cache.py": "beside the times of files",
}
"""The files that may read the wall clock, and what for: each of them compares it with other clocks or shows it."""


def test_only_these_files_read_the_wall_clock():
    found = set()
    for package in (distill, cluster, tune):
        root = Path(package.__file__).parent
        for path in root.rglob("*.py"):
            calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
            if {ast.unparse(call.func) for call in calls} & {"time.time", "time.time_ns", "datetime.now"}:
                found.add(path.relative_to(root.parent).as_posix())
    assert found == set(STAMPS), "use time.monotonic() for a duration"


@pytest.fixture
def jumping(monkeypatch):
    """time.time() is hours ahead at one call and hours behind at the next."""
    real, offsets = time.time, [7 * HOURS]

    def jumped() -> float:
        offsets.append(-offsets[-1])
        return real() + offsets[-1]

    monkeypatch.setattr(time, "time", jumped)


def test_a_loop_with_a_deadline_in_an_hour_takes_all_its_steps(jumping):
    loop = Loop(small.context("trajectory", "outer.steps=4"), Watcher(), deadline=time.monotonic() + HOURS)
    loop.run()
    assert loop.done == 4 and loop.context.recipe.outer.steps == 4


def test_a_loop_whose_deadline_is_over_ends_whatever_the_clock_says(jumping):
    loop = Loop(small.context("trajectory", "outer.steps=4"), Watcher(), deadline=time.monotonic() - 1)
    loop.run()
    assert loop.done == 1


def test_a_job_that_starts_again_elsewhere_has_what_is_left_of_its_time(jumping, monkeypatch):
    """Its clock is the board's: a worker is sent no moment, which on another machine's clock would be another."""
    monkeypatch.setattr(group.ray, "get", lambda answer: answer)
    board = LocalBoard()
    board.board = Board.__ray_metadata__.modified_class((), HOURS)
    worker = Worker(0, 1, None, board)
    first = worker.deadline()
    assert 0 < first - time.monotonic() <= HOURS
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3000)  # the same board, 50 minutes on
    assert worker.deadline() == pytest.approx(first, abs=5)
    board.board = Board.__ray_metadata__.modified_class()
    assert worker.deadline() is None


@pytest.mark.parametrize("seconds, begun", [(HOURS, [0, 1, 2]), (-1.0, [0])])
def test_experts_are_begun_until_the_deadline(jumping, monkeypatch, seconds, begun):
    """The first always; the others only if there is time."""
    monkeypatch.setattr(group.ray, "get", lambda answer: answer)
    grown, board = [], LocalBoard()
    board.board = Board.__ray_metadata__.modified_class([0, 1, 2], seconds)

    class Grower:
        def __init__(self, *arguments):
            self.grow = grown.append

    for name in ("shared_context", "own_set", "spec_of"):
        monkeypatch.setattr(experts, name, lambda *arguments: None)
    monkeypatch.setattr(experts, "Grower", Grower)
    experts._train(Worker(0, 1, None, board), {"store": "file:nowhere"})
    assert grown == begun


def test_a_file_that_is_being_written_survives_a_clock_that_makes_it_old(tmp_path, monkeypatch):
    store, other, real = LocalStore(tmp_path), open_store(f"file:{tmp_path}"), time.time
    store.create("a/left", b"to delete")
    dead = tmp_path / "a" / ".tmp-1-dead"
    dead.write_bytes(b"of a writer that died")

    class Slow:
        """A source in the middle of which the clock is set and another process cleans up."""

        def read(self, size: int = -1) -> bytes:
            if not self.done:
                self.done = True
                monkeypatch.setattr(time, "time", lambda: real() + base.STALE_SECONDS + HOURS)
                other.delete("a", dry_run=False)
                return b"whole"
            return b""

        done = False

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr("cluster.store.local.open_data", lambda data: Slow())
    store._create("a/new", b"")
    assert store.read("a/new") == b"whole" and not dead.exists()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["new"]


def test_what_is_away_is_waited_for_as_long_as_was_said(jumping, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_PATIENCE", "100")
    paused, calls = [], []
    monkeypatch.setattr(time, "sleep", paused.append)

    def call():
        calls.append(1)
        raise OSError("away")

    patience.expect("clock")
    with pytest.raises(OSError):
        patience.patiently(call, lambda error: True, "clock")
    assert sum(paused) == pytest.approx(100, abs=0.5) and len(calls) == len(paused) + 1


def test_an_up_that_is_under_way_is_known_after_the_clock_was_set(monkeypatch):
    """psutil gives the date of a process' start, which moves with the clock of the machine."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        born = processes.birth(child.pid)
        real = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: real(self) + 5 * HOURS)
        assert processes.alive(child.pid, born)
        assert not processes.alive(os.getpid(), born), "another process is not it"
        child.kill()
        child.wait()
        assert not processes.alive(child.pid, born)


def test_a_clock_that_was_set_back_gives_no_rate_and_no_time_left():
    assert rate(((10, 1000.0), (20, 1010.0))) == 1.0
    assert rate(((10, 1000.0), (20, 1000.0 - 5 * HOURS))) == 0.0


def test_unfinished_uploads_age_by_the_clock_of_the_s3_server(monkeypatch):
    """Which is in the year 2000 here: by this machine's clock all uploads would be decades old."""
    now = datetime(2000, 1, 1, 12, tzinfo=UTC)
    old = now - timedelta(seconds=2 * s3.STALE_SECONDS)
    uploads = [{"Key": "p/new", "UploadId": "1", "Initiated": now}, {"Key": "p/old", "UploadId": "2", "Initiated": old}]
    page = {"Uploads": uploads, "ResponseMetadata": {"HTTPHeaders": {"date": format_datetime(now, usegmt=True)}}}
    store = S3Store.__new__(S3Store)
    store.options = SimpleNamespace(bucket="b", prefix="p/")
    pages = SimpleNamespace(paginate=lambda **_: [page])
    store.client = SimpleNamespace(get_paginator=lambda name: pages)
    ended = []
    monkeypatch.setattr(S3Store, "_abort", lambda self, key, upload: ended.append((key, upload)))
    store._sweep("")
    assert ended == [("old", "2")]
