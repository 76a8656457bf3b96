"""Tracking against a real SQLite store: what was logged is there, once, also after a kill -9 and a second start."""

import os
import signal
import subprocess
import sys

import mlflow
import pytest
from PIL import Image

from cluster.tracking import run as tracking
from cluster.tracking.run import Tracker
from distill.errors import StoreError

RECIPE = {"name": "tiny", "outer": {"steps": 3, "lr_img": 0.5}, "experts": {"augment": {"strategies": ["flip"]}}}


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/new/mlflow.db"


def start(uri, key, params=RECIPE, experiment="tiny"):
    return Tracker.open(uri, experiment, f"run of {key}", key, params, {"stillhouse.recipe": "tiny", "n": 5})


def stored(uri, tracker):
    return mlflow.MlflowClient(uri).get_run(tracker.run_id)


def history(uri, tracker, name):
    metrics = mlflow.MlflowClient(uri).get_metric_history(tracker.run_id, name)
    return sorted((metric.step, metric.value) for metric in metrics)


def test_a_new_run_has_its_name_parameters_and_tags(uri, tmp_path):
    tracker = start(uri, "new")
    run = stored(uri, tracker)
    assert not tracker.resumed and run.info.status == "RUNNING" and run.info.run_name == "run of new"
    assert run.data.params == {
        "name": "tiny",
        "outer.steps": "3",
        "outer.lr_img": "0.5",
        "experts.augment.strategies": "['flip']",
    }
    assert run.data.tags.items() >= {"stillhouse.key": "new", "stillhouse.recipe": "tiny", "n": "5"}.items()
    database = uri.removeprefix("sqlite:///")
    assert run.info.artifact_uri.startswith(f"file://{os.path.dirname(database)}/artifacts/tiny/")
    assert tracker.page == f"#/experiments/{run.info.experiment_id}/runs/{tracker.run_id}/model-metrics"


def test_the_same_key_continues_the_run_and_another_starts_one(uri):
    first = start(uri, "continued")
    first.log(1, {"loss": 0.5})
    first.finish()
    assert stored(uri, first).info.status == "FINISHED"
    again = start(uri, "continued", params={"name": "other"})
    assert again.resumed and again.run_id == first.run_id
    assert stored(uri, again).info.status == "RUNNING"
    assert stored(uri, again).data.params["name"] == "tiny"
    again.log(2, {"loss": 0.25})
    again.finish("FAILED")
    assert stored(uri, again).info.status == "FAILED"
    assert history(uri, again, "loss") == [(1, 0.5), (2, 0.25)]
    assert start(uri, "another").run_id != first.run_id


def test_a_run_killed_before_its_parameters_gets_them_when_it_continues(uri, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(tracking.MlflowClient, "log_batch", lambda *_, **__: None)
        start(uri, "bare")
    assert stored(uri, start(uri, "bare")).data.params["outer.steps"] == "3"


def test_kill_9_loses_nothing_that_was_flushed(uri):
    script = (
        "import os, signal, sys\n"
        "from cluster.tracking.run import Tracker\n"
        "tracker = Tracker.open(sys.argv[1], 'tiny', 'killed', 'killed', {'a': 1}, {})\n"
        "for step in range(50): tracker.log(step, {'loss': 1 / (step + 1)})\n"
        "tracker.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, uri], check=False).returncode == -signal.SIGKILL
    tracker = start(uri, "killed")
    assert tracker.resumed
    assert history(uri, tracker, "loss") == [(step, 1 / (step + 1)) for step in range(50)]


def test_metrics_are_sent_together_and_all_arrive(uri, monkeypatch):
    tracker = start(uri, "batched")
    sent, send = [], tracker.client.at_once.log_batch

    def count(run_id, metrics):
        sent.append(len(metrics))
        send(run_id, metrics)

    monkeypatch.setattr(tracker.client.at_once, "log_batch", count)
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", float("inf"))
    for step in range(150):
        tracker.log(step, {"loss": step / 2, "rate": 3})
    assert sent == [200]
    tracker.log(150, {f"m{i}": i for i in range(1450)})
    tracker.log(151, {"loss": 75.5})
    tracker.finish()
    assert sent == [200, 100 + 1450, 1]
    assert history(uri, tracker, "loss") == [*((step, step / 2) for step in range(150)), (151, 75.5)]
    assert history(uri, tracker, "m1449") == [(150, 1449.0)]


def test_metrics_wait_no_longer_than_two_seconds(uri, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(tracking.time, "monotonic", lambda: clock[0])
    tracker = start(uri, "timed")
    clock[0] += 1.9
    tracker.log(0, {"loss": 1})
    assert history(uri, tracker, "loss") == []
    clock[0] += 0.2
    tracker.log(1, {"loss": 2})
    assert history(uri, tracker, "loss") == [(0, 1.0), (1, 2.0)]
    tracker.log(2, {"loss": 3})
    assert len(history(uri, tracker, "loss")) == 2


def test_pictures_have_their_step_and_come_once(uri, tmp_path):
    tracker = start(uri, "pictured")
    for step, grey in ((0, 10), (500, 20)):
        tracker.picture(step, "train/images", Image.new("RGB", (4, 4), (grey,) * 3))
    again = start(uri, "pictured")
    again.picture(500, "train/images", Image.new("RGB", (4, 4), (99, 99, 99)))
    again.picture(1000, "train/images", Image.new("RGB", (4, 4), (30, 30, 30)))
    folder = mlflow.MlflowClient(uri).download_artifacts(tracker.run_id, "images", str(tmp_path))
    names = sorted((name for name in os.listdir(folder) if name.endswith(".png")), key=lambda n: int(n.split("+")[2]))
    assert [name.split("+step+")[1].split("+")[0] for name in names] == ["0", "500", "1000"]
    assert [Image.open(f"{folder}/{name}").getpixel((0, 0))[0] for name in names] == [10, 20, 30]


def test_folders_are_uploaded(uri, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "note.txt").write_text("hello")
    tracker = start(uri, "files")
    tracker.artifacts(tmp_path, "distilled")
    assert mlflow.artifacts.load_text(f"{stored(uri, tracker).info.artifact_uri}/distilled/sub/note.txt") == "hello"


def test_many_and_long_parameters(uri):
    params = {"block": {f"p{i}": i for i in range(230)}, "long": "x" * 7000}
    found = stored(uri, start(uri, "many", params)).data.params
    assert len(found) == 231 and found["block.p229"] == "229" and found["long"] == "x" * 6000


def test_global_state_of_mlflow_is_left_alone(uri):
    before = mlflow.get_tracking_uri()
    start(uri, "quiet").log(0, {"loss": 1})
    assert mlflow.active_run() is None and mlflow.get_tracking_uri() == before
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_processes_that_start_together_share_a_new_database(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    script = "import sys; from cluster.tracking.run import Tracker; Tracker.open(*sys.argv[1:5], {'a': 1}, {}).finish()"
    runs = [
        subprocess.Popen([sys.executable, "-c", script, uri, "tiny", "r", key], stderr=subprocess.PIPE, text=True)
        for key in ("one", "two")
    ]
    assert [(run.communicate()[1], run.returncode) for run in runs] == [("", 0), ("", 0)]
    client = mlflow.MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert sorted(run.data.tags["stillhouse.key"] for run in found) == ["one", "two"]


def test_an_experiment_made_by_another_process_meanwhile_is_adopted(uri, monkeypatch):
    first = start(uri, "early", experiment="contested")
    find = tracking.MlflowClient.get_experiment_by_name
    asked = []

    def absent_at_first(client, name):
        asked.append(name)
        return find(client, name) if len(asked) > 1 else None

    monkeypatch.setattr(tracking.MlflowClient, "get_experiment_by_name", absent_at_first)
    late = start(uri, "late", experiment="contested")
    assert stored(uri, late).info.experiment_id == stored(uri, first).info.experiment_id


@pytest.mark.parametrize("kind", ["file", "blocked", "unknown"])
def test_a_store_that_cannot_be_used_is_named_with_the_fix(tmp_path, kind):
    (tmp_path / "taken").write_text("a file, not a folder")
    uri = {
        "file": f"file://{tmp_path}/mlruns",
        "blocked": f"sqlite:///{tmp_path}/taken/mlflow.db",
        "unknown": "gopher://somewhere",
    }[kind]
    with pytest.raises(StoreError) as caught:
        start(uri, "never")
    assert f"tracking store {uri}" in str(caught.value) and "MLFLOW_TRACKING_URI" in str(caught.value)


def test_a_deleted_experiment_is_named_with_the_fix(uri):
    start(uri, "gone", experiment="gone")
    client = mlflow.MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name("gone").experiment_id)
    with pytest.raises(StoreError, match="'gone' was deleted: `mlflow experiments restore -x"):
        start(uri, "gone", experiment="gone")
