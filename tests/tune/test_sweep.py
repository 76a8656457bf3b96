"""Whole sweeps on real Ray: they are resumed after kill -9 and account for every trial."""

import json
import re
from pathlib import Path

import pytest
from support.cli import TINY, start
from support.killing import kill_tree, wait_for

from cluster.results.runs import run_ids
from cluster.store import open_store
from cluster.tracking.run import connect
from tune.journal import Journal

pytestmark = pytest.mark.ray
SEARCH = {
    "outer.lr_img": '{ kind = "grid", values = [0.5, 1.0, 1e30] }',
    "objective.syn_steps": '{ kind = "grid", values = [2, 3] }',
}


def toml(folder: Path, steps: int, **blocks: str) -> str:
    """A sweep over the digits cut down to seconds; one rate makes every pixel NaN."""
    lines = ['name = "tiny"', 'recipe = "digits"', "concurrency = 2"]
    lines += [f"{key} = {value}" for key, value in blocks.items()]
    lines += ["[overrides]", *(line for line in TINY if line.partition("=")[0] not in SEARCH)]
    lines += [f"outer.{name} = {n}" for name, n in (("steps", steps), ("evaluate_every", 5), ("checkpoint_every", 5))]
    lines = list({line.partition("=")[0].strip(): line for line in lines}.values())
    lines += ["[search]", *(f'"{path}" = {values}' for path, values in SEARCH.items())]
    (folder / "tiny.toml").write_text("\n".join(lines) + "\n")
    return str(folder / "tiny.toml")


def journal_of(home: Path) -> Journal:
    (name,) = {path.name for path in (home / "store/sweeps").iterdir()}
    return Journal(open_store(f"file:{home}/store"), name)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory) -> tuple[Path, dict]:
    """Home and figures of a sweep whose driver was killed when one trial had ended and another was running."""
    home = tmp_path_factory.mktemp("sweep") / "home"
    home.mkdir()
    sweep = [toml(home, 40), "searcher.kind=grid", "scheduler.kind=none"]
    process = start(home, "sweep", *sweep)

    def in_the_middle() -> bool:
        if not (home / "store/sweeps").is_dir():
            return False
        trials = journal_of(home).trials()
        return any(t.end for t in trials) and any(not t.end and t.best and 5 <= t.best.step <= 25 for t in trials)

    wait_for(in_the_middle, process, home / "output.log")
    kill_tree(process.pid)
    process.wait()
    (home / "before.json").write_text(json.dumps(snapshot(home)))
    again = start(home, "sweep", *sweep, "--resume", "--json", str(home / "figures.json"))
    assert again.wait() == 0, (home / "output.log").read_text()
    return home, json.loads((home / "figures.json").read_text())


def snapshot(home: Path) -> dict[str, float]:
    """Ended trials, with the time their end was written."""
    return {str(p): p.stat().st_mtime for p in (home / "store/sweeps").rglob("end.json")}


def test_finished_trials_are_kept_and_the_others_resumed(resumed):
    home, figures = resumed
    before = json.loads((home / "before.json").read_text())
    assert 1 <= len(before) < 6
    assert {path: mtime for path, mtime in snapshot(home).items() if path in before} == before
    trials = journal_of(home).trials()
    assert [t.number for t in trials] == list(range(6)) and all(t.end for t in trials)
    said = (home / "output.log").read_text()
    assert f"resuming: {len(before)} trials have ended" in said
    steps = re.findall(r"^trial (\d+) step (\d+):", said.split("resuming: ")[1], re.MULTILINE)
    first = {int(number): int(step) for number, step in reversed(steps)}
    assert not {int(Path(path).parts[-2]) for path in before} & set(first), "an ended trial ran again"
    assert any(step > 0 for step in first.values()), "an unfinished trial started again at its first step"


def test_a_resumed_sweep_has_every_combination_and_marks_what_diverged(resumed):
    _, figures = resumed
    drawn = [(t["values"]["outer.lr_img"], t["values"]["objective.syn_steps"]) for t in figures["trials"]]
    assert drawn == [(0.5, 2), (0.5, 3), (1.0, 2), (1.0, 3), (1e30, 2), (1e30, 3)]
    assert [t["status"] for t in figures["trials"]] == ["finished"] * 4 + ["diverged"] * 2
    for trial in figures["trials"][4:]:
        assert "NaN or Inf" in trial["message"] and "at step" in trial["message"]


def test_mlflow_has_a_child_per_trial_with_pictures_and_the_registry_the_best(resumed):
    home, figures = resumed
    client = connect(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("sweeps").experiment_id
    runs = client.search_runs([experiment])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {int(r.data.tags["stillhouse.trial"]): r for r in runs if r is not parent}
    assert sorted(children) == list(range(6)) and parent.info.status == "FINISHED"
    assert {r.data.tags["mlflow.parentRunId"] for r in children.values()} == {parent.info.run_id}
    assert [children[i].info.status for i in range(6)] == ["FINISHED"] * 4 + ["FAILED"] * 2
    assert all(client.list_artifacts(children[i].info.run_id, "images") for i in range(4))
    assert {f.path for f in client.list_artifacts(parent.info.run_id)} == {"report.html", "winner.toml"}
    best = max(figures["trials"], key=lambda t: t["validation_accuracy"] if t["status"] == "finished" else -1)
    assert figures["winner"] == best["number"]
    version = client.get_model_version_by_alias(figures["result"]["model"], "best")
    assert float(version.tags["selection_accuracy"]) == best["validation_accuracy"]
    assert version.run_id == children[best["number"]].info.run_id
    (experts,) = client.search_runs([client.get_experiment_by_name("experts").experiment_id])
    assert experts.info.status == "FINISHED"


def test_the_winners_recipe_is_ready_to_distill(resumed, monkeypatch, capsys):
    from support.cli import stillhouse

    home, figures = resumed
    monkeypatch.setenv("STILLHOUSE_HOME", str(home))
    monkeypatch.delenv("STILLHOUSE_STORE", raising=False)
    recipe = Path(figures["report"]).with_name("winner.toml")
    assert stillhouse(monkeypatch, "distill", str(recipe)) == 0
    assert "this run has ended before" in capsys.readouterr().out
    assert figures["result"]["run_id"] in run_ids(open_store(f"file:{home}/store"))


def test_a_sweep_is_not_started_twice_by_mistake(resumed, tmp_path, monkeypatch, capsys):
    from support.cli import stillhouse

    import tune.cli  # noqa: F401 - declares the command

    home, _ = resumed
    monkeypatch.setenv("STILLHOUSE_HOME", str(home))
    monkeypatch.delenv("STILLHOUSE_STORE", raising=False)
    arguments = ("sweep", str(home / "tiny.toml"), "searcher.kind=grid", "scheduler.kind=none")
    assert stillhouse(monkeypatch, *arguments) == 2
    assert "--resume" in capsys.readouterr().err
    assert stillhouse(monkeypatch, *arguments, "outer.momentum=0.1", "--resume") == 2
    assert "nothing to resume" in capsys.readouterr().err
