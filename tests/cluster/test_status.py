"""`stillhouse status`: what the store and MLflow say of runs, alone and together."""

import json

import pytest
import torch
from support.cli import stillhouse

from cluster.results.runs import Run
from cluster.results.status import PLACE, STEPS, Tracked, rate, status, unfinished
from cluster.store import open_store
from cluster.tracking.run import Tracker
from distill.checkpoint import Checkpoint

NOW = 10_000.0


@pytest.fixture
def run(tmp_path) -> Run:
    made = Run(open_store(f"file:{tmp_path}/store"), "demo-100")
    made.describe({"outer": {"steps": 100}})
    made.save(Checkpoint(20, "demo-100", {"x": torch.zeros(1)}, {}))
    return made


def tracked(state="RUNNING", last=NOW - 2, steps=0) -> Tracked:
    """A run that has logged steps 21 to 30, two a second."""
    return Tracked(state, "host: 1 x cpu", steps, tuple((21 + i, last - 4.5 + i / 2) for i in range(10)))


def test_a_running_run_has_its_speed_and_the_time_left(run):
    now = status(run, tracked(), NOW)
    assert (now.state, now.step, now.steps, now.checkpoint, now.place) == ("running", 30, 100, 20, "host: 1 x cpu")
    assert now.rate == pytest.approx(2) and now.left == pytest.approx(35) and now.seen == pytest.approx(2)
    assert status(run, tracked(steps=50), NOW).left == pytest.approx(10)


@pytest.mark.parametrize(
    "known, state", [(tracked("KILLED"), "stopped"), (tracked("FAILED"), "failed"), (None, "unknown"),
                     (tracked(last=NOW - 3600), "silent")],
)  # fmt: skip
def test_a_run_that_is_not_running_has_no_time_left(run, known, state):
    now = status(run, known, NOW)
    assert now.state == state and now.left is None and now.checkpoint == 20 and now.steps == 100


def test_a_finished_run_is_finished_whatever_mlflow_says(run):
    run.store.create(f"{run.folder}/result.json", json.dumps({"step": 90}).encode())
    assert status(run, tracked(), NOW).state == status(run, None, NOW).state == "finished"
    assert unfinished(run.store) == []


def test_the_speed_is_that_since_the_run_was_resumed():
    assert rate(((5, 0.0), (6, 1.0), (7, 2.0), (6, 100.0), (7, 100.1), (8, 100.2))) == pytest.approx(10)
    assert rate(()) == rate(((5, 1.0),)) == 0


def test_the_command_shows_unfinished_runs_of_the_store_and_of_mlflow(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("MLFLOW_TRACKING_URI", "STILLHOUSE_STORE"):
        monkeypatch.delenv(name, raising=False)
    assert stillhouse(monkeypatch, "status") == 0  # without a database
    assert "shown is what the store says" in (said := capsys.readouterr().out) and "unknown" in said
    for key in ("demo-100", "young-7"):
        tracker = Tracker.open(f"sqlite:///{tmp_path}/mlflow.db", "distill", key, key, {}, {})
        tracker.tag({PLACE: "node-3: 2 x cuda", STEPS: "7"})
        for step in (1, 2, 3):
            tracker.log(step, {"loss": 1.0})
        tracker.flush()
    out = tmp_path / "status.json"
    assert stillhouse(monkeypatch, "status", "--json", str(out)) == 0
    said = capsys.readouterr().out
    assert "node-3: 2 x cuda" in said and "3/7" in said
    assert [(one["run"], one["state"]) for one in json.loads(out.read_text())] == [
        ("demo-100", "running"), ("young-7", "running")
    ]  # fmt: skip
    assert stillhouse(monkeypatch, "status", "young-7") == 0
    assert "demo-100" not in capsys.readouterr().out
    assert stillhouse(monkeypatch, "status", "absent") == 2
    assert "absent" in capsys.readouterr().err
