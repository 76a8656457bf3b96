"""Progress: a log gets plain lines with loss, accuracy, speed and time left, not more often than every few seconds."""

import io

import pytest
from rich.console import Console

from cluster.jobs import progress
from cluster.jobs.events import DistillingStarted, StepDone
from cluster.jobs.progress import Bar, Reading


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
