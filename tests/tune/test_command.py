"""`stillhouse sweep` on the command line: help is instant, a dry run starts nothing, bad input is one message."""

import json
import subprocess
import sys

import pytest
from support.cli import TINY, stillhouse

import tune.cli  # noqa: F401 - declares the command
from tune import reading

SWEEP = 'recipe = "digits"\n[search]\n"synthetic.ipc" = { kind = "choice", values = [1, %d] }\n'


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    for name in ("STILLHOUSE_STORE", "MLFLOW_TRACKING_URI", "STILLHOUSE_DATA"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def test_help_imports_neither_torch_nor_ray_nor_optuna():
    code = (
        "import sys\nfrom tune import cli\nsys.argv = ['stillhouse', 'sweep', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'matplotlib', 'boto3'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--resume" in done.stdout


def test_a_dry_run_says_what_would_be_done_and_starts_nothing(home, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.toml").write_text(SWEEP % 2)
    out = tmp_path / "figures.json"
    assert stillhouse(monkeypatch, "sweep", str(tmp_path / "mine.toml"), *TINY, "--dry-run", "--json", str(out)) == 0
    said = capsys.readouterr().out
    for line in ("12 outer steps", "20 of 2 combinations", "1 distinct set before", f"file:{home}/store/sweeps/mine-"):
        assert line in said, said
    assert json.loads(out.read_text())["sweep"]["search"]["synthetic.ipc"]["values"] == [1, 2]
    assert not home.exists()


@pytest.mark.parametrize("name", [name for name in reading.shipped() if name.startswith("digits-")])
def test_shipped_sweeps_over_the_digits_can_be_started(name, home, monkeypatch, capsys):
    """Every set at the corners of the search is built once."""
    assert stillhouse(monkeypatch, "sweep", name, "--dry-run") == 0
    assert not home.exists()


def test_what_only_the_data_can_refuse_is_refused_before_anything_starts(home, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.toml").write_text(SWEEP % 500)
    assert stillhouse(monkeypatch, "sweep", str(tmp_path / "mine.toml"), *TINY) == 2
    assert "to choose 500 from; lower the images per class (synthetic.ipc" in capsys.readouterr().err
    assert not home.exists()


def test_shipped_sweeps_are_listed(home, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    assert stillhouse(monkeypatch, "sweep", "--list") == 0
    said = capsys.readouterr().out
    assert all(name in said for name in reading.shipped())
    assert stillhouse(monkeypatch, "sweep") == 2
    assert "which sweep?" in capsys.readouterr().err
