"""`--within` through Ray: a run that is cut short is published as the shorter one and found in MLflow as such."""

import json

import pytest
from support.cli import stillhouse

from cluster.results.runs import Run
from cluster.store import open_store
from cluster.tracking.pictures import frames
from cluster.tracking.run import Tracker

LONG = (
    "distill", "digits", "dataset.limit=300", "network.depth=1", "network.width=4", "threads=1",
    'objective={kind="distribution", batch_real=8}', "outer.steps=1000000", "outer.evaluate_every=1000000",
    "outer.checkpoint_every=200", "outer.picture_every=100", "evaluation.epochs=2", "evaluation.networks=2",
    "evaluation.selection_networks=1",
)  # fmt: skip


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_that_is_cut_short_is_found_in_mlflow_by_its_own_name(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path))
    for name in ("STILLHOUSE_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    assert stillhouse(monkeypatch, *LONG, "--within", "5s", "--json", str(tmp_path / "result.json")) == 0
    result, uri = json.loads((tmp_path / "result.json").read_text()), f"sqlite:///{tmp_path}/mlflow.db"
    lineage, _, steps = result["run_id"].rpartition("-")
    assert 0 < int(steps) < 1_000_000
    assert Run(open_store(f"file:{tmp_path}/store"), result["run_id"]).published().step <= int(steps)
    assert frames(uri, "distill", result["run_id"], "synthetic", 3, 64)
    short, long, other = (Tracker.find(uri, "distill", f"{lineage}-{n}") for n in (steps, 1_000_000, int(steps) + 1))
    assert short.run_id == long.run_id and other is None
