"""Progress: a log gets plain lines with loss, accuracy, speed and time left, not more often than every few seconds."""

import io
import json
from dataclasses import replace
from datetime import datetime

import pytest
from rich.console import Console

from cluster.cli import common
from cluster.cli.options import LogFormat
from cluster.jobs import progress
from cluster.jobs.events import DistillingResumed, DistillingStarted, Note, StepDone
from cluster.jobs.progress import Bar, JsonLines, Reading


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def lines(clock, seconds_per_step: float) -> list[str]:
    out = io.StringIO()
    with Bar(Console(file=out, force_terminal=False)) as bar:
        bar(DistillingStarted(10))
        for step in range(1, 11):
            clock[0] += seconds_per_step
            bar(StepDone(step, {"loss": 0.5}, 0.25))
    return out.getvalue().splitlines()


def test_a_line_says_where_the_run_is(clock):
    said = lines(clock, 6.0)
    assert said[0] == "distilling: workers are starting"
    assert said[2] == "distilling 2/10 loss 0.5000 accuracy 25.0 % 0.17 it/s 48 s left"
    assert len(said) == 11


def test_fast_steps_do_not_flood_the_log(clock):
    said = lines(clock, 1.0)
    assert len(said) == 4 and said[-1].startswith("distilling 10/10")


def test_a_terminal_gets_a_bar(clock):
    out = io.StringIO()
    with Bar(Console(file=out, force_terminal=True, width=140)) as bar:
        bar(DistillingStarted(4))
        bar(StepDone(2, {"loss": 0.5}, None))
    assert "2/4" in out.getvalue() and "loss 0.5000" in out.getvalue() and "━" in out.getvalue()


def test_reading_says_a_line_now_and_then_and_nothing_when_it_is_quick(clock):
    out, quick = io.StringIO(), io.StringIO()
    with Reading(Console(file=out, width=80)) as reading:
        for done in range(31):
            reading("reading images", done, 30)
            clock[0] += 0.5
    assert out.getvalue().splitlines() == ["reading images 11/30", "reading images 22/30"]
    with Reading(Console(file=quick, width=80, force_terminal=True)) as reading:
        reading("reading images", 1, 2)
    assert "reading" not in quick.getvalue()


def test_every_event_is_a_line_of_json_with_run_step_and_worker(capsys):
    with JsonLines("demo-10") as log:
        log(replace(StepDone(3, {"loss": 0.5, "grad": float("inf")}, None), worker=2))
        log(Note('a "quoted" \n word'))
        log(DistillingResumed(4))
    step, note, resumed = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert datetime.fromisoformat(step.pop("time")).tzinfo is not None
    assert step.pop("metrics") == {"loss": 0.5, "grad": "Infinity"}
    assert step == {"event": "step_done", "run": "demo-10", "worker": 2, "step": 3, "accuracy": None, "judged": None}
    assert (note["event"], note["text"]) == ("note", 'a "quoted" \n word')
    assert (resumed["event"], resumed["run"], resumed["step"]) == ("distilling_resumed", "demo-10", 4)


@pytest.mark.parametrize("log, kind", [(LogFormat.JSON, JsonLines), (LogFormat.TEXT, Bar)])
def test_json_has_standard_output_for_itself(log, kind, capsys, monkeypatch):
    monkeypatch.setattr(common, "console", Console(highlight=False))
    common.log_to_console(log)
    assert type(common.shown("demo-10")) is kind
    common.console.print("for people")
    assert ("for people" in capsys.readouterr().err) == (log is LogFormat.JSON)
