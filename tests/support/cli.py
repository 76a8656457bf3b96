"""Running the command line as a user would type it, inside the test process or in one of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import cli


def stillhouse(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `stillhouse ARGUMENTS`; the exit code."""
    monkeypatch.setattr(sys, "argv", ["stillhouse", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code or 0


STILLHOUSE = str(Path(sys.executable).with_name("stillhouse"))
ROOT = Path(__file__).parents[2]


def environment(home: Path, **more: str) -> dict[str, str]:
    """That of a user with nothing set but a home of their own, and `more`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "STILLHOUSE_", "MLFLOW_"))}
    path = f"{Path(STILLHOUSE).parent}:{os.environ['PATH']}"
    return {**kept, "STILLHOUSE_HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT), **more}


def start(home: Path, *arguments: str, **more: str) -> subprocess.Popen:
    """`stillhouse ARGUMENTS` in a session of its own, with the variables `more`; it writes to `home`/output.log."""
    home.mkdir(parents=True, exist_ok=True)
    log = (home / "output.log").open("a")
    command = [sys.executable, "-m", "tune.cli", *arguments]
    env = environment(home, **more)
    return subprocess.Popen(command, env=env, cwd=home, stdout=log, stderr=log, start_new_session=True)


def finish(process: subprocess.Popen, home: Path) -> str:
    """All that the commands of a home said, once this one has ended well."""
    assert process.wait() == 0, (home / "output.log").read_text()
    return (home / "output.log").read_text()


TINY = (
    "dataset.limit=300",
    "network.depth=1",
    "network.width=4",
    "experts.count=2",
    "experts.epochs=4",
    "experts.workers=1",
    "objective.syn_steps=3",
    "objective.max_start_epoch=2",
    "outer.steps=12",
    "outer.lr_img=1",
    "outer.evaluate_every=6",
    "outer.checkpoint_every=2",
    "outer.picture_every=6",
    "evaluation.epochs=4",
    "evaluation.networks=2",
    "evaluation.selection_networks=2",
    "threads=1",
)
"""The digits recipe cut down to seconds."""
