"""A whole matrix on real Ray: a cell that ends well, one that diverges, two that are refused; a rerun is free."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import TINY

from cluster.results.runs import run_ids
from cluster.store import open_store
from cluster.tracking.run import connect

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[3]


def stillhouse(home: Path, *arguments: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "STILLHOUSE_", "MLFLOW_"))}
    environment = {**kept, "STILLHOUSE_HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    command = [sys.executable, "-m", "tune.cli", "matrix", "digits", *arguments]
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_matrix_runs_every_cell_it_can_and_continues(tmp_path):
    words = [*TINY, "outer.steps=2", "outer.evaluate_every=2", "concurrency=1", "--sets", "pixels,wang"]
    words += ["--objectives", "trajectory,distribution", "--baselines", "random,full"]
    words += ["distribution:objective.batch_real=4", "trajectory:outer.lr_img=1e30"]
    said = stillhouse(tmp_path, *words, "--out", str(tmp_path / "out"), "--json", str(tmp_path / "first.json"))
    figures = json.loads((tmp_path / "first.json").read_text())
    cells = {(c["set"], c["objective"]): c for c in figures["cells"]}
    assert {pair: c["status"] for pair, c in cells.items()} == {
        ("pixels", "trajectory"): "diverged",
        ("pixels", "distribution"): "finished",
        ("wang", "trajectory"): "refused",
        ("wang", "distribution"): "refused",
    }
    good = cells["pixels", "distribution"]
    assert good["floats"] == 640 and good["test_n"] == 2 and 0 <= good["test_mean"] <= 1
    assert set(figures["baselines"]) == {"random", "full"} and "NaN or Inf" in said and "9.81 images" in said
    assert good["run_id"] in run_ids(open_store(f"file:{tmp_path}/store"))
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"matrix.png", "matrix.csv", "matrix.json"}

    client = connect(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "sweeps"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert len(runs) == 3 and parent.info.status == "FINISHED"
    assert parent.data.metrics["test/pixels-distribution"] == good["test_mean"]
    assert {f.path for f in client.list_artifacts(parent.info.run_id, "matrix")} >= {"matrix/matrix.png"}
    assert len(client.search_model_versions("name = 'digits-dm-pixels-1ipc'")) == 1

    said = stillhouse(tmp_path, *words, "--json", str(tmp_path / "again.json"))
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["cells"] == figures["cells"] and again["baselines"] == figures["baselines"]
    assert not re.search(r"^trial \d", said, re.M), "nothing is computed again"
