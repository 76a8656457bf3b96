"""Where things live: what is asked for wins, and nothing is created by asking."""

import sys
from pathlib import Path

import pytest

from cluster import home
from distill.errors import StoreError


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for name in ("STILLHOUSE_HOME", "STILLHOUSE_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_defaults_lie_in_one_folder_that_asking_does_not_create(tmp_path):
    place = f"{tmp_path}/stillhouse"
    assert home.home() == Path(place)
    assert home.store_url() == f"file:{place}/store"
    assert home.tracking_uri() == f"sqlite:///{place}/mlflow.db"
    assert home.artifact_root() == f"file://{place}/artifacts"
    home.ui_command()
    assert list(tmp_path.iterdir()) == []


def test_what_is_asked_for_wins(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STILLHOUSE_HOME", "here")
    assert home.home() == tmp_path / "here"
    monkeypatch.setenv("STILLHOUSE_HOME", "~/there")
    assert home.home() == tmp_path / "there"
    monkeypatch.setenv("STILLHOUSE_STORE", "s3://bucket/prefix")
    assert home.store_url() == "s3://bucket/prefix"
    assert home.store_url("file:/else") == "file:/else"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert home.tracking_uri() == "http://mlflow:5000"
    assert home.artifact_root() is None
    assert home.artifact_root(f"sqlite:///{tmp_path}/a b/x.db?timeout=9") == f"file://{tmp_path}/a%20b/artifacts"


def test_the_page_is_for_this_machine_only():
    command = home.ui_command("sqlite:////data/mlflow.db", port=5050)
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert options == {
        "--backend-store-uri": "sqlite:////data/mlflow.db",
        "--artifacts-destination": "file:///data/artifacts",
        "--host": "127.0.0.1",
        "--port": "5050",
        "--workers": "1",
    }


def test_a_server_has_its_own_page():
    with pytest.raises(StoreError, match="http://mlflow:5000 has a page of its own"):
        home.ui_command("http://mlflow:5000")


@pytest.mark.parametrize("path", ["my.db", "a b/my.db?timeout=9"])
def test_a_relative_database_is_where_the_command_was_started(monkeypatch, tmp_path, path):
    """Workers run in temporary folders: the run and the model would end in one of these."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    given = home.tracking_uri()
    monkeypatch.chdir("/")
    assert given == f"sqlite:///{tmp_path}/{path}"
    assert home.artifact_root(given).startswith(tmp_path.as_uri())


@pytest.mark.parametrize("mark", ["?", "%", "%20"])
def test_a_home_that_mlflow_would_misread_is_refused(monkeypatch, tmp_path, mark):
    monkeypatch.setenv("STILLHOUSE_HOME", f"{tmp_path}/what{mark}x")
    with pytest.raises(StoreError, match="STILLHOUSE_HOME"):
        home.tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert home.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert home.store_url() == f"file:{tmp_path}/what{mark}x/store"


def test_a_store_may_have_any_folder(tmp_path):
    from cluster.store import open_store

    store = open_store(f"file:{tmp_path}/what? 100 %/store")
    store.create("a/b", b"1")
    assert open_store(store.url).read("a/b") == b"1"
