"""Workers whose number may change: what may be said of it, and a run that loses a node and goes on with the rest."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support import small
from support.cli import ROOT, TINY
from support.killing import kill_tree, wait_for
from support.ray_head import RAY, head, second_node

from cluster.jobs import group, train_group
from cluster.results.runs import Run, run_ids
from cluster.store import open_store
from distill import objectives, recipe
from distill.errors import ClusterError, RecipeError
from distill.loop import Loop, Watcher


def test_a_range_of_workers_is_a_setting_that_changes_no_run():
    fixed, elastic = (recipe.load("digits", [f"outer.workers={w}", "objective.segments=6"]) for w in ("2", "1..4"))
    assert (fixed.outer.worker_range, elastic.outer.worker_range) == ((2, 2), (1, 4))
    assert fixed.run_id("0" * 64) == elastic.run_id("0" * 64)


@pytest.mark.parametrize("wrong", ["4..1", "2..2", "0..3", "1..", "some", "0", "-1", "1.5", "true"])
def test_what_is_no_number_of_workers_is_refused_in_words(wrong):
    with pytest.raises(RecipeError, match=r"outer.workers: use a number of workers, 1 or more, or from..to as in 1..8"):
        recipe.load("digits", [f"outer.workers={wrong}", "objective.segments=8"])


def test_every_worker_has_a_segment():
    with pytest.raises(RecipeError, match="objective.segments must be at least 8: outer.workers = 1..8"):
        recipe.load("digits", ["outer.workers=1..8", "objective.segments=7"])


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_segments_are_divided_among_any_number_of_workers(world):
    """Each is computed once, and memory is counted for the worker that has the most."""
    context = small.context("trajectory", "outer.workers=1..4", "objective.segments=6")
    loops = [Loop(context, Watcher(), rank, world) for rank in range(world)]
    assert sorted(s for loop in loops for s in loop.segments) == [0, 1, 2, 3, 4, 5]
    assert objectives.build(context).segments_per_worker == 6
    context = small.context("trajectory", "outer.workers=4..5", "objective.segments=6")
    assert objectives.build(context).segments_per_worker == 2


def test_the_least_number_must_fit_and_the_greatest_divides_the_threads(monkeypatch):
    began = []
    monkeypatch.setattr(group, "_board", lambda items, deadline: None)
    monkeypatch.setattr(group, "nodes", lambda: [{"CPU": 2}, {"CPU": 2}])
    monkeypatch.setattr("cluster.jobs.fitting.nodes", lambda: [{"CPU": 2}, {"CPU": 2}])
    monkeypatch.setattr(group, "gpus", lambda: 0)
    monkeypatch.setattr(group, "watch", lambda job, board, on_event: job())
    monkeypatch.setattr(train_group, "fit", lambda job, least, most: began.append((job.threads, least, most, job)))
    group.run(print, {}, recipe.load("digits"), (1, 4), print)
    group.run(print, {}, recipe.load("digits", ["threads=2"]), (1, 4), print)
    assert [entry[:3] for entry in began] == [(1, 1, 4), (2, 1, 4)]
    assert began[0][3].elastic and began[0][3].restarts == group.ELASTIC_RESTARTS
    with pytest.raises(ClusterError, match="1 worker claim 3 CPU"):
        group.run(print, {}, recipe.load("digits", ["threads=3"]), (1, 4), print)


def submit(command: list[str], env: dict[str, str], log: Path) -> subprocess.Popen:
    """A running `ray job submit`; it is repeated while the head's job agent is still starting."""
    for _ in range(60):
        with log.open("w") as out:
            process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
        if process.poll() is None or "No available agent" not in log.read_text():
            break
    return process


@pytest.mark.ray
@pytest.mark.nightly
def test_a_run_that_loses_a_node_goes_on_with_the_workers_that_are_left(tmp_path):
    """One worker of two threads on each of two nodes; one node dies. No worker is waited for that cannot come."""
    home, figures, log = tmp_path / "home", tmp_path / "figures.json", tmp_path / "job.log"
    steps = 400

    def checkpoint() -> int:
        store = open_store(f"file:{home}/store")
        keys = [key for name in run_ids(store) for key in Run(store, name).checkpoints()]
        return int(Path(keys[-1]).stem) if keys else 0

    with head(tmp_path) as env, second_node(env, tmp_path) as node:
        job = {"env_vars": {"STILLHOUSE_HOME": str(home), "PYTHONPATH": str(ROOT)}}
        command = [RAY, "job", "submit", "--runtime-env-json", json.dumps(job), "--", sys.executable, "-m", "tune.cli"]
        command += ["distill", "digits", *(t for t in TINY if t != "threads=1"), "threads=2", f"outer.steps={steps}"]
        command += ["outer.workers=1..2", "objective.segments=2", "objective.engine.compile=off", "experts.compile=off"]
        command += ["outer.evaluate_every=400", "outer.picture_every=400", "--json", str(figures)]
        submitted = submit(command, env, log)
        wait_for(lambda: checkpoint() >= 10, submitted, log)
        assert any("RayTrainWorker" in " ".join(p.cmdline()) for p in psutil.Process(node.pid).children(recursive=True))
        kill_tree(node.pid)
        lost = checkpoint()
        assert submitted.wait() == 0, log.read_text()
    assert lost < steps
    said = log.read_text()
    assert said.index("workers: 2") < said.index("workers: 1"), said
    assert json.loads(figures.read_text())["step"] in (0, steps)
