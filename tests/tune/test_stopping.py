"""Ctrl-C and SIGTERM stop a sweep and a matrix within seconds, mark their runs, and the command continues them."""

import re
import signal
from pathlib import Path

import pytest
from support.cli import TINY, start
from support.killing import wait_for

from cluster.stopping import Stopped
from cluster.store import open_store
from cluster.tracking.run import Tracker, connect
from tune import command, sweep
from tune.journal import End, Journal, SweepTrial
from tune.sweep import Places

LONG = 1_000_000
"""Outer steps of a trial that no test waits for."""


def statuses(home: Path) -> dict[str, str]:
    """How MLflow says that the sweep ("") and its trials ended."""
    client = connect(f"sqlite:///{home}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("sweeps").experiment_id])
    return {run.data.tags.get("stillhouse.trial", ""): run.info.status for run in runs}


@pytest.fixture
def places(tmp_path) -> Places:
    return Places(f"file:{tmp_path}/store", f"sqlite:///{tmp_path}/mlflow.db", tmp_path)


def test_the_sweep_and_its_running_trials_become_killed_and_ended_ones_stay(places, tmp_path):
    journal = Journal(open_store(places.store), "s-01")
    parent = Tracker.open(places.tracking, "sweeps", "s", "s-01", {}, {"stillhouse.sweep": "s-01"})
    for number, end in ((0, End("finished", 9)), (1, None), (2, None)):
        journal.drawn(SweepTrial(number, {}, {}))
        key, tags = f"s-01 {number}", {"stillhouse.trial": number}
        child = Tracker.open(places.tracking, "sweeps", key, key, {}, tags, parent=parent.run_id)
        if end:
            journal.end(number, end)
            child.finish()
    with pytest.raises(Stopped), sweep.killed_if_stopped(journal, places):
        raise Stopped(signal.SIGTERM)
    assert statuses(tmp_path) == {"": "KILLED", "0": "FINISHED", "1": "KILLED", "2": "KILLED"}
    assert [trial.status for trial in journal.trials()] == ["finished", "running", "running"]


@pytest.mark.parametrize("resume, options", [(False, ("--resume",)), (True, ())])
def test_what_continues_a_sweep_says_resume_once(places, monkeypatch, resume, options):
    journal = Journal(open_store(places.store), "s-01")

    def stop() -> None:
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(sweep, "open_journal", lambda *arguments: journal)
    monkeypatch.setattr("cluster.jobs.session.session", stop)
    with pytest.raises(Stopped) as stopped:
        command._run(None, None, (places.store, places.tracking, str(places.home)), resume)
    assert stopped.value.options == options


@pytest.mark.ray
@pytest.mark.nightly  # five starts of Ray
@pytest.mark.parametrize("what", ["sweep", "matrix"])
def test_each_signal_saves_marks_and_says_how_to_continue(what, tmp_path):
    """The first trial ends before the signal and does not run again; the second is stopped by each of the two."""
    home, log = tmp_path / "home", tmp_path / "home" / "output.log"
    (home).mkdir()
    fast = [*TINY, "experts.compile=off", "outer.checkpoint_every=500000"]
    fast += ["outer.evaluate_every=500000", "outer.picture_every=500000", "objective.engine.compile=off"]
    if what == "sweep":
        values = f"[4, {LONG}]"
        text = f'recipe = "digits"\nconcurrency = 1\n[search]\n"outer.steps" = {{ kind = "grid", values = {values} }}\n'
        (home / "mine.toml").write_text(text + '[searcher]\nkind = "grid"\n[scheduler]\nkind = "none"\n')
        words, resume = ["sweep", str(home / "mine.toml"), *fast], " --resume"
    else:
        words, resume = ["matrix", "digits", *fast, "--sets", "pixels", "--baselines", "random"], ""
        words += ["--objectives", "trajectory,distribution", "distribution:objective.batch_real=4", "concurrency=1"]
        words += ["trajectory:outer.steps=4", f"distribution:outer.steps={LONG}"]
    steps = []
    for signum, code, name in ((signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")):
        process = start(home, *words, *(["--resume"] if steps and resume else []))
        wait_for(lambda: moving(home, steps), process, log)
        process.send_signal(signum)
        assert process.wait() == code, log.read_text()
        said = log.read_text()
        line = rf"stopped by {name}, 1 of 2 trials have ended, checkpoints saved: trial 1 after step (\d+); to cont"
        (step,) = re.findall(line, said)
        assert said.splitlines()[-1].endswith(resume) and "Traceback" not in said
        assert statuses(home) == {"": "KILLED", "0": "FINISHED", "1": "KILLED"}
        assert ended(home) == ["00000"]
        steps.append(int(step))
    assert steps[1] > steps[0] > 0, "the second start did not continue from the first's checkpoint"
    assert len(re.findall("trial 0 finished", said)) == 1


def moving(home: Path, stops: list[int]) -> bool:
    """Whether trial 1 is beyond the step at which it was stopped last."""
    if not (home / "store/sweeps").exists() or not ended(home):
        return False
    client = connect(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("sweeps").experiment_id
    runs = client.search_runs([experiment], "tags.`stillhouse.trial` = '1'")
    steps = [m.step for run in runs for m in client.get_metric_history(run.info.run_id, "loss")]
    return max(steps, default=0) > (stops[-1] if stops else 0)


def ended(home: Path) -> list[str]:
    return sorted(path.parent.name for path in (home / "store/sweeps").rglob("end.json"))
