"""The scripts of figures distill and judge: one step of a few of their settings gives rows that their tables read."""

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

HERE = Path(__file__).parent
QUICK = ["outer.steps=1", "outer.evaluate_every=1", "evaluation.networks=1", "evaluation.selection_networks=1"]


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Run a script with arguments; the values of its module."""
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(name: str, *arguments: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        return SimpleNamespace(**runpy.run_path(str(HERE / name), run_name="__main__"))

    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)


def rows(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_figures_of_posters(script, tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    for only in ("budget poster 0.5", "budget random", "order greedy", "order optimal"):
        script(
            "posters_figures.py", "run", "digits", *QUICK, "evaluation.steps=[2]", "--json", str(file), "--only", only
        )
    found = {row["name"]: row for row in rows(file)}
    assert found["poster 0.5"]["floats"] == 319 and found["poster 0.5 learned labels"]["floats"] > 319
    assert 0 < found["greedy"]["order_score"] < found["optimal"]["order_score"]
    assert found["random real 1.0"]["test"]["n"] == 1
    script("posters_figures.py", "draw", str(file), "--folder", str(tmp_path))
    assert (tmp_path / "posters-digits-order.png").stat().st_size > 5000
    assert "poster 0.5 learned labels" in capsys.readouterr().out


def test_table_of_methods(script, tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    few = (*QUICK, "evaluation.epochs=2", "experts.count=1", "experts.epochs=7", "experts.workers=1")
    only = [
        text for name in ("random", "MTT", "HaBa with DM", "texture", "GAN", "LatentDM") for text in ("--only", name)
    ]
    for _ in range(2):  # what the file has is not distilled again
        script("methods.py", "digits", *few, "--json", str(file), *only)
    found = {row["name"]: row for row in rows(file)}
    assert len(found) == len(rows(file)) == 6
    floats = {name: row.get("floats") for name, row in found.items()}
    assert floats["MTT"] == floats["texture with DM"] == 640 and floats["GAN"] == 602
    printed = capsys.readouterr().out
    assert printed.count("| MTT | images | 640 |") == 2 and printed.count("digits, 1 per class: MTT") == 1
