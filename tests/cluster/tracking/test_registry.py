"""The registry against a real SQLite store, a real MLflow server, and an interpreter that lacks Stillhouse."""

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.pyfunc.scoring_server import predictions_to_json
from PIL import Image
from support import small

from cluster import home
from cluster.tracking import registry
from cluster.tracking.run import Tracker
from distill.errors import DataError, StoreError
from distill.published import FILE, FILES, read, write


def published(seed=0):
    g = torch.Generator().manual_seed(seed)
    pixels = torch.rand(4, 1, 5, 6, generator=g)
    y = torch.softmax(torch.randn(4, 3, generator=g), 1)
    classes, state = ("ant", "bee", "cow"), {"images": pixels - 1}
    return small.published(pixels * 2, y, pixels, classes, 0.02, {"name": "tiny"}, 7, state)


def tags(accuracy, selection="validation"):
    return {"selection_accuracy": accuracy, "selection": selection, "protocol": "mtt"}


@pytest.fixture(scope="module", autouse=True)
def own_database(tmp_path_factory):
    """Saving a model makes MLflow's default database, which must not lie in the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/default.db")
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def uri(place):
    return f"sqlite:///{place}/mlflow.db"


@pytest.fixture(scope="module")
def export(place):
    write(published(), place / "export")
    return place / "export"


@pytest.fixture(scope="module")
def first(uri, export):
    """A run with one picture whose set is version 1 of `shared`."""
    tracker = Tracker.open(uri, "tiny", "tiny", "first", {"a": 1}, {})
    tracker.picture(7, "images", Image.new("RGB", (4, 4), (9, 9, 9)))
    tracker.artifacts(export, "distilled")
    assert registry.publish(tracker, "shared", export, tags(0.8)) == 1
    return tracker


def run(uri, key):
    return Tracker.open(uri, "tiny", key, key, {}, {})


def best(uri, name):
    return int(mlflow.MlflowClient(registry_uri=uri).get_model_version_by_alias(name, "best").version)


def test_a_version_has_its_tags_run_and_alias(uri, first, export):
    version = mlflow.MlflowClient(uri).get_model_version("shared", "1")
    expected = {"selection_accuracy": "0.8", "selection": "validation", "protocol": "mtt"}
    assert version.tags == expected | {"stillhouse.sha256": registry.sha256(export / FILE)}
    assert version.run_id == first.run_id and version.status == "READY" and best(uri, "shared") == 1
    outputs = mlflow.MlflowClient(uri).get_run(first.run_id).outputs.model_outputs
    assert [output.step for output in outputs] == [7]
    logged = mlflow.MlflowClient(uri).get_logged_model(outputs[0].model_id)
    assert logged.artifact_location == version.source and logged.status == "READY"
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "shared", "version": 1}]


def test_publishing_the_same_file_again_is_the_same_version(uri, first, export, tmp_path):
    shutil.copytree(export, tmp_path / "copy")
    assert registry.publish(first, "shared", tmp_path / "copy", tags(0.8)) == 1
    tracker = run(uri, "again")
    assert registry.publish(tracker, "again", export, tags(0.5)) == 1
    write(published(seed=1), tmp_path / "other")
    assert registry.publish(tracker, "again", tmp_path / "other", tags(0.4)) == 2
    assert registry.publish(tracker, "again", export, tags(0.5)) == 1
    assert registry.publish(run(uri, "another run"), "again", export, tags(0.3)) == 3
    assert best(uri, "again") == 1


def halt(*_):
    raise KeyboardInterrupt


def test_a_publish_that_stopped_before_the_alias_is_completed(uri, export, monkeypatch):
    tracker = run(uri, "halted")
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_registered_model_alias", halt)
        with pytest.raises(KeyboardInterrupt):
            registry.publish(tracker, "halted", export, tags(0.5))
    with pytest.raises(mlflow.exceptions.MlflowException):
        best(uri, "halted")
    assert registry.publish(tracker, "halted", export, tags(0.5)) == 1 == best(uri, "halted")


def test_best_moves_to_what_is_at_least_as_good(uri, export):
    holders = []
    for i, accuracy in enumerate((0.5, 0.4, 0.5, 0.00005, 0.6)):
        registry.publish(run(uri, f"best {i}"), "contest", export, tags(accuracy))
        holders.append(best(uri, "contest"))
    assert holders == [1, 1, 3, 3, 5]


def test_selection_on_test_images_never_displaces_selection_on_held_out_ones(uri, export):
    holders = []
    for i, entry in enumerate([(0.9, "best-on-test"), (0.5, "validation"), (0.99, "best-on-test")]):
        registry.publish(run(uri, f"honest {i}"), "honest", export, tags(*entry))
        holders.append(best(uri, "honest"))
    assert holders == [1, 2, 2]


def test_no_pickle_is_stored_and_requirements_are_the_installed_ones(uri, first, place):
    version = mlflow.MlflowClient(uri).get_model_version("shared", "1")
    folder = mlflow.artifacts.download_artifacts(version.source, tracking_uri=uri)
    names = [name for _, _, files in os.walk(folder) for name in files]
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt"))]
    assert set(FILES) < set(names) and "registered_model.py" in names
    needs = open(f"{folder}/requirements.txt").read().split()
    assert {line.split("==")[0] for line in needs} == {"mlflow", "numpy", "pandas", "safetensors"}
    assert f"numpy=={np.__version__}" in needs


@pytest.mark.parametrize("model", ["shared", "shared@best", "models:/shared@best", "models:/shared@latest", "shared/1"])
def test_fetch_brings_the_published_files(uri, first, export, tmp_path, model):
    folder = registry.fetch(model, tmp_path / "new" / "got", uri)
    assert sorted(os.listdir(folder)) == sorted(FILES)
    for name in FILES:
        assert (folder / name).read_bytes() == (export / name).read_bytes()
    assert torch.equal(read(folder).state["images"], published().state["images"])


ABSENT = ["shared/2", "shared@none", "absent", "models:/Shared", "../shared", "shared@best/x", ""]


@pytest.mark.parametrize("model", ABSENT)
def test_fetch_names_what_is_not_there(uri, first, tmp_path, model):
    with pytest.raises(StoreError, match=f"model '?{model}'?: "):
        registry.fetch(model, tmp_path, uri)
    assert list(tmp_path.iterdir()) == []


def test_fetch_does_not_make_a_database(tmp_path):
    with pytest.raises(StoreError, match=f"no tracking database at {tmp_path}/mlflow.db"):
        registry.fetch("shared", tmp_path / "got", f"sqlite:///{tmp_path}/mlflow.db")
    assert list(tmp_path.iterdir()) == []


def test_fetch_refuses_a_file_that_was_changed(uri, export, tmp_path):
    tracker = run(uri, "changed")
    registry.publish(tracker, "changed", export, tags(0.5))
    source = mlflow.MlflowClient(uri).get_model_version("changed", "1").source
    stored = f"{source.removeprefix('file://')}/artifacts/{FILE}"
    content = bytearray(open(stored, "rb").read())
    content[-1] ^= 1
    open(stored, "wb").write(content)
    with pytest.raises(StoreError, match="is not the file that was published"):
        registry.fetch("changed", tmp_path, uri)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "../a", "a" * 64, "-a", "a b", "a\n"])
def test_names_outside_the_allowed_ones_are_refused(first, export, name):
    with pytest.raises(StoreError, match="model name"):
        registry.publish(first, name, export, tags(0.5))


def test_only_a_whole_set_with_an_accuracy_is_published(uri, first, export, tmp_path):
    with pytest.raises(DataError, match="no distilled set"):
        registry.publish(first, "nothing", tmp_path, tags(0.5))
    with pytest.raises(KeyError, match="selection_accuracy"):
        registry.publish(first, "nothing", export, {})
    assert mlflow.MlflowClient(uri).search_registered_models("name = 'nothing'") == []


def test_loading_answers_with_the_images_also_where_stillhouse_is_not_installed(uri, first, tmp_path):
    script = (
        "import sys, mlflow\n"
        "for name in ('distill', 'cluster', 'torch'): sys.modules[name] = None\n"
        "model = mlflow.pyfunc.load_model('models:/shared@best')\n"
        "print(model.predict(None)['pixels'][3].ravel().tolist())\n"
    )
    env = os.environ | {"MLFLOW_TRACKING_URI": uri}
    command = [sys.executable, "-c", script]
    out = subprocess.run(command, env=env, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert json.loads(out.splitlines()[-1]) == published().pixels[3].ravel().tolist()


@pytest.mark.parametrize("question", [None, pd.DataFrame()], ids=["none", "empty"])
def test_the_answer_is_a_table(uri, first, monkeypatch, question):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    answer = mlflow.pyfunc.load_model("models:/shared@best").predict(question)
    truth = published()
    assert list(answer.columns) == ["label", "class", "soft_label", "pixels", "x"]
    assert answer["label"].tolist() == truth.labels.argmax(1).tolist()
    assert answer["class"].tolist() == [truth.classes[k] for k in truth.labels.argmax(1)]
    assert np.array_equal(np.stack(answer["soft_label"]), truth.labels.numpy())
    assert np.array_equal(np.stack(answer["pixels"]), truth.pixels.numpy())
    assert np.array_equal(np.stack(answer["x"]), truth.images.numpy())
    served = io.StringIO()
    predictions_to_json(answer, served)
    first_row = json.loads(served.getvalue())["predictions"][0]
    assert np.array_equal(np.float32(first_row["pixels"]), truth.pixels[0].numpy())


@pytest.fixture(scope="module")
def server(uri, first, place):
    """The address of MLflow's page over the database, served as `stillhouse ui` serves it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, environment = home.ui_command(uri, port), home.ui_environment()
    process = subprocess.Popen(
        command, env=environment, cwd=place, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said = []
        for line in process.stderr:  # ends if the server does
            said.append(line)
            if "Uvicorn running on" in line:
                break
        assert process.poll() is None, "".join(said)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()


def ask(address, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def test_the_page_lists_the_run_its_picture_and_the_registered_model(server, first):
    assert b"<title>MLflow</title>" in ask(f"{server}/")
    api = f"{server}/api/2.0/mlflow"
    model = json.loads(ask(f"{api}/registered-models/get?name=shared"))["registered_model"]
    assert {"alias": "best", "version": "1"} in model["aliases"]
    files = json.loads(ask(f"{api}/artifacts/list?run_id={first.run_id}&path=images"))["files"]
    pictures = [file["path"] for file in files if file["path"].endswith(".png")]
    assert len(pictures) == 1 and pictures[0].startswith("images/images+step+7+")
    path = urllib.parse.quote(pictures[0], safe="")
    png = ask(f"{server}/get-artifact?run_uuid={first.run_id}&path={path}")
    assert Image.open(io.BytesIO(png)).getpixel((0, 0)) == (9, 9, 9)


def test_the_page_serves_the_distilled_files(server, first, export):
    got = ask(f"{server}/get-artifact?run_uuid={first.run_id}&path=distilled%2F{FILE}")
    assert got == (export / FILE).read_bytes()


def test_publish_and_fetch_through_the_server(server, uri, export, place, tmp_path):
    tracker = Tracker.open(server, "remote", "remote", "remote", {"a": 1}, {})
    tracker.log(1, {"loss": 0.5})
    tracker.finish()
    assert registry.publish(tracker, "remote", export, tags(0.7)) == 1
    registry.fetch("remote", tmp_path / "got", server)
    assert (tmp_path / "got" / FILE).read_bytes() == (export / FILE).read_bytes()
    assert best(uri, "remote") == 1
    assert [path for path in (place / "artifacts").rglob(FILE) if "models" in path.parts and "tiny" not in path.parts]
    assert not (place / "mlartifacts").exists() and not (place / "mlruns").exists()
