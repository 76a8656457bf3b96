"""`stillhouse doctor`: each line OK or the fix, and exit code 2 if there is one."""

import json

import pytest
from support.cli import stillhouse

from cluster.cli import doctor

CHECKS = ["versions", "machine", "gpu", "compiler", "store", "tracking", "ray", "images"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    for name in ("STILLHOUSE_STORE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    well = doctor.Finding("machine", True, "large")
    monkeypatch.setattr(doctor, "_machine", lambda: well)  # how much is free is not for a test to say
    monkeypatch.setattr("distill.engine.compiling.has_compiler", lambda device: True)
    return tmp_path / "home"


def findings(monkeypatch, tmp_path, *arguments) -> tuple[int, dict]:
    code = stillhouse(monkeypatch, "doctor", *arguments, "--json", str(tmp_path / "out.json"))
    return code, {one["name"]: one for one in json.loads((tmp_path / "out.json").read_text())}


def test_a_machine_that_is_well(home, tmp_path, monkeypatch, capsys):
    code, found = findings(monkeypatch, tmp_path)
    said = capsys.readouterr().out
    assert code == 0 and list(found) == CHECKS and all(one["ok"] for one in found.values()), said
    assert said.count("OK") == len(CHECKS) and f"file:{home}/store" in said and "torch 2." in said
    assert not home.exists()


def test_what_is_wrong_is_named_with_its_fix(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    monkeypatch.setattr("distill.engine.compiling.has_compiler", lambda device: False)
    home.mkdir()
    (home / "mlflow.db").write_text("no database, but a text of some length " * 9)
    (tmp_path / "file").write_text("")
    code, found = findings(monkeypatch, tmp_path, "--store", f"file:{tmp_path}/file/store")
    said = capsys.readouterr().out
    wrong = [name for name, one in found.items() if not one["ok"]]
    assert code == 2 and wrong == ["compiler", "store", "tracking", "ray"]
    assert "install g++" in said and said.count("fix") >= 4
