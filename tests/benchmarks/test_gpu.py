"""The GPU benchmark in a tiny form on the CPU: its parts measure, and what was measured survives what happens next."""

import argparse
import json
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import gpu


@pytest.fixture
def options(tmp_path) -> argparse.Namespace:
    return argparse.Namespace(out=tmp_path / "out", device="cpu", seconds=60.0, parts="", quick=True)


@pytest.mark.parametrize("part", ["unroll-eager", "unroll-plain", "cifar100", "experts", "recipe-mtt-cifar10-10ipc"])
def test_every_kind_of_part_measures(options, part):
    figures = list(gpu.measure(part, options))
    assert figures and all(figure["seconds"] > 0 and figure["mib"] is None for figure in figures)
    text = gpu.markdown(
        {"device": "x", "torch": "y", "missing": {}, "figures": [{"part": part, **figure} for figure in figures]}
    )
    assert text.count("\n|") == 2 + len(figures)


@pytest.mark.parametrize("name", gpu.RECIPES[1:])
def test_the_other_recipes_can_be_set_up(options, name):
    assert not list(gpu.measure(f"recipe-{name}", options))


def test_every_part_and_recipe_has_a_share_of_the_time():
    assert sum(gpu.PARTS.values()) <= 480
    assert {f"unroll-{kind}" for kind in gpu.KINDS} | {f"recipe-{name}" for name in gpu.RECIPES} <= set(gpu.PARTS)


def test_a_figure_is_on_the_disk_at_once_and_stays_when_its_part_or_another_ends_badly(options, monkeypatch):
    """A part that hangs with a helper that holds its output, one that fails, one that is in order."""
    figure = json.dumps({"images": 4, "steps": 3, "seconds": 0.25, "mib": 1000.0})
    programs = {
        "unroll-eager": "import subprocess, sys, time; print({f!r}, flush=True);"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); time.sleep(600)",
        "unroll-plain": "print({f!r}, flush=True); raise SystemExit('out of memory')",
        "unroll-bf16": "import json, pathlib; print({f!r} if len(json.loads("
        "pathlib.Path({out!r}).read_text())['figures']) == 2 else '')",
    }
    values = {"f": figure, "out": str(options.out / "gpu.json")}
    monkeypatch.setattr(gpu, "command", lambda part, o: [sys.executable, "-c", programs[part].format(**values)])
    monkeypatch.setattr(gpu, "PARTS", {"unroll-eager": 1, "unroll-plain": 20, "unroll-bf16": 20})
    options.parts, started = ",".join(programs), time.monotonic()
    gpu.collect(options)
    assert time.monotonic() - started < 300
    kept = json.loads((options.out / "gpu.json").read_text())
    assert [one["part"] for one in kept["figures"]] == list(programs)
    assert "ended after" in kept["missing"]["unroll-eager"] and "failed" in kept["missing"]["unroll-plain"]
    assert "out of memory" in (options.out / "unroll-plain.log").read_text()
    assert "| 4 | 3 | 0.25, 1,000 | 0.25, 1,000 | 0.25, 1,000 |" in (options.out / "gpu.md").read_text()


def test_without_time_nothing_is_started(options, monkeypatch):
    monkeypatch.setattr(gpu, "command", lambda part, o: pytest.fail("started"))
    options.parts, options.seconds = "experts", 0.0
    options.out.mkdir()
    assert gpu.collect(options)["missing"] == {"experts": "no time was left"}
