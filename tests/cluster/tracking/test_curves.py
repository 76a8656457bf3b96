"""Accuracies of experts in a real SQLite store: one run per set, each epoch once, whole after kills and growth."""

import mlflow
import pytest
import torch
from support import small

from cluster.jobs import experts as jobs
from cluster.store import open_store
from cluster.tracking.curves import Curves
from cluster.trajectories import ExpertRecord, TrajectorySet

P = ("train_accuracy", "test_accuracy")


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"


def history(uri, name, metric):
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs(
        [client.get_experiment_by_name("experts").experiment_id], f"tags.`stillhouse.key`='{name}'"
    )
    return run, [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, metric)]


def test_one_run_holds_every_epoch_once_whoever_was_killed(uri, tmp_path):
    """Expert i reaches (i + epoch) / 10 on the test images. The driver dies after epoch 1 of expert 0."""
    c = small.context("trajectory", "experts.epochs=3", "objective.max_start_epoch=1")
    experts, spec = TrajectorySet(open_store(f"file:{tmp_path}/store"), "set"), jobs.spec_of(c)
    first = Curves.of(c, "set", uri)
    for epoch in (0, 1):
        first.expert(0, epoch, {"train_accuracy": 0.5, "test_accuracy": epoch / 10})
    first.tracker.flush()
    again = Curves.of(c, "set", uri)
    for epoch in (1, 2):  # going on from epoch 0; epoch 3 is lost with the driver
        again.expert(0, epoch, {"train_accuracy": 0.5, "test_accuracy": epoch / 10})
    for i in range(2):
        theta = torch.zeros(4, c.network.layout.size)
        experts.write_expert(spec, ExpertRecord(i, theta, [0.5] * 4, [(i + e) / 10 for e in range(4)], 0))
    experts.seal(spec, 2)
    again.finish(experts.open())
    for i in range(2):
        run, found = history(uri, "set", f"expert-00{i}/test_accuracy")
        assert found == [(e, (i + e) / 10) for e in range(4)]
        assert history(uri, "set", f"expert-00{i}/train_accuracy")[1] == [(e, 0.5) for e in range(4)]
    assert history(uri, "set", "mean-of-2/test_accuracy")[1] == [(e, pytest.approx(e / 10 + 0.05)) for e in range(4)]
    assert run.info.status == "FINISHED" and run.data.params["experts.epochs"] == "3"


def test_a_grown_set_has_means_of_its_own(uri, tmp_path):
    c = small.context("trajectory", "experts.epochs=3", "objective.max_start_epoch=1")
    experts, spec = TrajectorySet(open_store(f"file:{tmp_path}/store"), "grown"), jobs.spec_of(c)
    for i in range(2):
        experts.write_expert(spec, ExpertRecord(i, torch.zeros(4, c.network.layout.size), [0.5] * 4, [i / 1.0] * 4, 0))
        experts.seal(spec, i + 1)
        Curves.of(c, "grown", uri).finish(experts.open())
    assert {value for _, value in history(uri, "grown", "mean-of-1/test_accuracy")[1]} == {0.0}
    assert {value for _, value in history(uri, "grown", "mean-of-2/test_accuracy")[1]} == {0.5}
    assert len(history(uri, "grown", "expert-000/test_accuracy")[1]) == 4


def test_training_that_fails_is_marked(uri):
    c = small.context("trajectory")
    Curves.of(c, "failed", uri).fail()
    assert history(uri, "failed", "none")[0].info.status == "FAILED"


def test_without_a_tracking_store_nothing_is_tracked(tmp_path):
    c = small.context("trajectory")
    curves = Curves.of(c, "set", None)
    curves.expert(0, 0, dict.fromkeys(P, 0.5))
    curves.fail()
    assert curves.tracker is None
