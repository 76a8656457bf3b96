"""Accuracy against outer steps: curves from logs and from MLflow, papers' figures from their table, one picture."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.append(str(Path(__file__).parent))
import curves

LOG = """loading
12:00:01 run {"step": 0, "held_out": 0.1}
12:00:02 run {"step": 9, "loss": 1.5}
12:00:04 run {"step": 20, "held_out": 0.31}
12:00:03 run {"step": 10, "held_out": 0.25}
"""


@pytest.fixture
def log(tmp_path) -> str:
    (tmp_path / "run.log").write_text(LOG)
    return str(tmp_path / "run.log")


def test_a_curve_is_added_replaced_and_drawn(log, tmp_path, monkeypatch):
    file, picture = tmp_path / "curves.json", tmp_path / "curves.png"
    for steps in ("", ":5000"):
        arguments = ["--json", str(file), "--out", str(picture), "--add", "ours", f"MTT{steps}", log]
        monkeypatch.setattr(sys, "argv", ["curves.py", *arguments])
        curves.main()
        (curve,) = json.loads(file.read_text())
        assert curve["points"] == [[0, 10.0], [10, 25.0], [20, 31.0]]
        assert curve["paper_steps"] == (5000 if steps else None)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_log_without_accuracies_is_refused(tmp_path):
    (tmp_path / "empty.log").write_text('{"step": 1, "loss": 2.0}\n')
    with pytest.raises(ValueError, match="no accuracies on held-out images"):
        curves.points_of(str(tmp_path / "empty.log"))


def test_a_run_of_mlflow_has_the_curve_that_distilling_logs(monkeypatch):
    asked = []

    def history(run, metric):
        asked.append((run, metric))
        return [SimpleNamespace(step=step, value=value) for step, value in ((25, 0.5), (0, 0.125))]

    monkeypatch.setattr("mlflow.MlflowClient", lambda: SimpleNamespace(get_metric_history=history))
    assert curves.points_of("0123abcd") == [[0, 12.5], [25, 50.0]]
    watcher = Path(curves.__file__).parents[2] / "cluster" / "jobs" / "distilling.py"
    assert asked == [("0123abcd", curves.METRIC)] and f'"{curves.METRIC}":' in watcher.read_text()


def test_figures_of_papers_come_from_their_table_or_not_at_all():
    assert curves.paper("MTT", 1) == 46.3 and curves.paper("PoDD", 0.5) == 49.5
    with pytest.raises(ValueError, match="no accuracy of MTT at 3 images"):
        curves.paper("MTT", 3)
