"""A home that was moved or copied: its sets are found by name, and new ones are written beside them."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from support import small

from cluster.home import artifact_root
from cluster.tracking import registry
from cluster.tracking.moved import LOCATIONS, adopt
from cluster.tracking.run import Tracker
from distill.published import read, write


def publish(home, seed: int) -> str:
    """A set published in a home; its SHA-256."""
    g = torch.Generator().manual_seed(seed)
    pixels, y = torch.rand(4, 1, 5, 6, generator=g), torch.softmax(torch.randn(4, 3, generator=g), 1)
    made = small.published(pixels, y, pixels, ("ant", "bee", "cow"), 0.02, {"name": "tiny"}, 7, {})
    folder = home / f"published-{seed}"
    files = write(made, folder)
    tracker = Tracker.open(f"sqlite:///{home}/mlflow.db", "distill", f"run-{seed}", f"run-{seed}", {"seed": seed}, {})
    registry.publish(tracker, "tiny", folder, {"selection_accuracy": str(0.5 + seed / 10), "selection": "validation"})
    tracker.finish()
    return registry.sha256(files[-1])


def everything(database) -> list[str]:
    with sqlite3.connect(database) as opened:
        return [str(row) for table, _ in LOCATIONS for row in opened.execute(f"SELECT * FROM {table}")]


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_sets_of_a_home_that_is_elsewhere_are_found(tmp_path, monkeypatch, how):
    old, new = tmp_path / "old home", tmp_path / "new" / "home"
    old.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/default.db")  # where saving a model makes one
    digest = publish(old, 1)
    new.parent.mkdir()
    (shutil.move if how == "moved" else shutil.copytree)(old, new)
    uri = f"sqlite:///{new}/mlflow.db"
    before = {file: file.read_bytes() for file in old.rglob("*") if file.is_file()} if how == "copied" else {}
    registry.fetch("tiny@best", tmp_path / "fetched", uri)
    assert registry.sha256(tmp_path / "fetched" / registry.FILE) == digest and read(tmp_path / "fetched").classes
    publish(new, 2)
    registry.fetch("tiny@best", tmp_path / "second", uri)
    assert not any(
        str(old) in row or artifact_root(f"sqlite:///{old}/mlflow.db") in row for row in everything(new / "mlflow.db")
    )
    assert all(file.read_bytes() == content for file, content in before.items())  # the other home is left alone
    assert adopt(new / "mlflow.db") == []


def test_locations_elsewhere_on_purpose_stay(tmp_path):
    """An experiment on S3, and one in a folder of its own that is not beside the database."""
    with sqlite3.connect(tmp_path / "mlflow.db") as opened:
        opened.execute("CREATE TABLE experiments (name TEXT, artifact_location TEXT)")
        rows = [("a", "s3://bucket/artifacts/a"), ("b", "file:///far/artifacts/b"), ("c", "file:///far/c"), ("d", None)]
        opened.executemany("INSERT INTO experiments VALUES (?, ?)", rows)
    for name in "ac":
        (tmp_path / "artifacts" / name).mkdir(parents=True)
    assert adopt(tmp_path / "mlflow.db") == []
    (tmp_path / "artifacts" / "b").mkdir()
    assert adopt(tmp_path / "mlflow.db") == ["file:///far/artifacts"]
    with sqlite3.connect(tmp_path / "mlflow.db") as opened:
        found = opened.execute("SELECT artifact_location FROM experiments").fetchall()
    here = (tmp_path / "artifacts").as_uri()
    assert [row[0] for row in found] == ["s3://bucket/artifacts/a", f"{here}/b", "file:///far/c", None]


def test_a_write_that_was_cut_off_by_a_kill_is_rolled_back(tmp_path):
    """SQLite leaves a journal beside the file, which only a connection that may write can use."""
    database = tmp_path / "mlflow.db"
    script = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('CREATE TABLE experiments (name, artifact_location)')\n"
        "c.execute('PRAGMA cache_size = 1')\n"
        "c.execute('BEGIN IMMEDIATE')\n"
        "c.executemany('INSERT INTO experiments VALUES (?, ?)', [(str(i), 'x' * 4000) for i in range(200)])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(database)], check=False)
    assert Path(f"{database}-journal").exists()
    assert adopt(database) == []
    with closing(sqlite3.connect(database)) as after:
        assert after.execute("SELECT count(*) FROM experiments").fetchone() == (0,)
