"""A sweep submitted to a cluster of two nodes, one of which dies in the middle: every trial is accounted for."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.cli import TINY
from support.killing import kill_tree, wait_for
from support.ray_head import RAY, head, second_node

from cluster.store import open_store
from tune.journal import Journal

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]


def sweep(folder: Path) -> str:
    """Six trials, four at a time, on nodes of two CPUs each."""
    lines = ['name = "cluster"', 'recipe = "digits"', "concurrency = 4", "[overrides]"]
    lines += [line for line in TINY if not line.startswith(("outer.steps", "outer.evaluate_every"))]
    lines += ["outer.steps = 60", "outer.evaluate_every = 5", "[searcher]", 'kind = "grid"', "[scheduler]"]
    lines += ['kind = "none"', "[search]", '"outer.lr_img" = { kind = "grid", values = [1, 2, 3, 4, 5, 6] }']
    (folder / "cluster.toml").write_text("\n".join(lines) + "\n")
    return str(folder / "cluster.toml")


def journal_of(home: Path) -> Journal | None:
    names = [path.name for path in (home / "store/sweeps").glob("*")]
    return Journal(open_store(f"file:{home}/store"), names[0]) if names else None


def trials_on(node: subprocess.Popen) -> int:
    """Trials whose process runs on a node."""
    children = psutil.Process(node.pid).children(recursive=True)
    names = []
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            names.append(" ".join(child.cmdline()))
    return sum("ImplicitFunc" in name or "run_trial" in name for name in names)


def test_a_sweep_survives_the_death_of_a_node(tmp_path):
    home, figures = tmp_path / "home", tmp_path / "figures.json"
    with head(tmp_path) as env, second_node(env, tmp_path) as node:
        job = {"env_vars": {"STILLHOUSE_HOME": str(home), "PYTHONPATH": str(ROOT)}}
        # Without --working-dir: two nodes on one machine unpack it to one place, under each other's feet.
        command = [RAY, "job", "submit", "--runtime-env-json", json.dumps(job), "--"]
        command += [sys.executable, "-m", "tune.cli", "sweep", sweep(tmp_path), "--json", str(figures)]
        with (tmp_path / "job.log").open("w") as log:
            submitted = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)

        def under_way() -> bool:
            journal = journal_of(home)
            reported = [t for t in journal.trials() if t.reports and not t.end] if journal else []
            return bool(reported) and trials_on(node) > 0

        wait_for(under_way, submitted, tmp_path / "job.log")
        lost = trials_on(node)
        kill_tree(node.pid)
        assert submitted.wait() == 0, (tmp_path / "job.log").read_text()
    assert lost >= 1
    said = json.loads(figures.read_text())
    assert [t["status"] for t in said["trials"]] == ["finished"] * 6
    assert [t["values"]["outer.lr_img"] for t in said["trials"]] == [1, 2, 3, 4, 5, 6]
    assert all(t["step"] == 60 for t in said["trials"])
    assert said["result"]["test_n"] == 2
