"""A run goes on while its real MLflow server, or the real PostgreSQL below it, is away for a minute, and catches up.

pytest -m nightly tests/cluster/tracking/test_away.py        # STILLHOUSE_AWAY_SECONDS=20 for a shorter time
"""

import os
import time

import pytest
from support.cli import TINY, finish, start
from support.killing import wait_for
from support.postgres import MLflowServer, Postgres

from cluster.results.runs import Run, run_ids
from cluster.store import open_store
from cluster.tracking.run import connect

pytestmark = [pytest.mark.ray, pytest.mark.nightly]
SECONDS = float(os.environ.get("STILLHOUSE_AWAY_SECONDS", 60))
STEPS = 600
DISTILL = (
    "distill", "digits", *TINY, "objective.engine.compile=off", "experts.compile=off", f"outer.steps={STEPS}",
    "outer.checkpoint_every=50", "outer.evaluate_every=200", "outer.picture_every=200",
)  # fmt: skip


@pytest.mark.parametrize("what", ["the database", "the server"])
def test_a_run_rides_out_a_minute_without_mlflow_and_all_its_metrics_are_there(what, tmp_path):
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'stillhouse[server]'")
    home, store = tmp_path / "home", open_store(f"file:{tmp_path}/home/store")

    def checkpoints() -> int:
        return len([key for name in run_ids(store) for key in Run(store, name).checkpoints()])

    with Postgres() as database, MLflowServer(database.uri, tmp_path) as server:
        process, log = start(home, *DISTILL, MLFLOW_TRACKING_URI=server.uri), home / "output.log"
        wait_for(lambda: checkpoints() > 0, process, log)
        away = database if what == "the database" else server
        away.stop()
        time.sleep(SECONDS)
        assert process.poll() is None, log.read_text()
        away.start()
        said = finish(process, home)
        assert "Traceback" not in said and "answers again after" in said, said

        client = connect(server.uri)
        (run,) = client.search_runs([client.get_experiment_by_name("distill").experiment_id])
        assert run.info.status == "FINISHED"
        losses = [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")]
        assert sorted(set(losses)) == list(range(1, STEPS + 1))
        (model,) = client.search_registered_models()
        assert model.latest_versions and Run(store, *run_ids(store)).result()["model"] == model.name
