"""Progress of a job: rich bars on a terminal, one plain line every few seconds in a log, or JSON for each event."""

import json
import re
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cluster.jobs.events import (
    DistillingCutShort,
    DistillingResumed,
    DistillingStarted,
    Event,
    ExpertEpoch,
    ExpertResumed,
    ExpertsStarted,
    Note,
    StepDone,
)

LINE_SECONDS = 5.0
QUICK_SECONDS = 1.0


class JsonLines:
    """A context manager; call it with the events of a job: each is one line of JSON on standard output.

    {"time": "2026-01-31T12:00:00.123Z", "event": "step_done", "run": "digits-1a2b-500", "worker": 0, "step": 12, ...}
    """

    def __init__(self, run: str):
        self.run = run

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def __call__(self, event: Event) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(event).__name__).lower()
        about = {"time": now, "event": name, "run": self.run, "worker": event.worker}
        values = {key: value for key, value in asdict(event).items() if key != "worker"}
        if values.get("run_id") == "":  # resumed from a checkpoint of its own
            del values["run_id"]
        line = json.loads(json.dumps(about | values, default=str), parse_constant=str)  # JSON has no NaN and Infinity
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


class Bar:
    """A context manager; call it with the events of a job. What has nothing to show is ignored."""

    def __init__(self, console: Console):
        self.console, self.live = console, console.is_terminal
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn())
        self.bars = Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console)
        self.task = self.bars.add_task("starting", total=None, note="")
        self.done, self.total, self.started, self.said = 0, 0, time.monotonic(), 0.0
        self.first: tuple[float, int] | None = None
        self.epochs: dict[int, int] = {}
        """The epoch that each expert has reached; a killed one falls back."""

    def __enter__(self) -> "Bar":
        if self.live:
            self.bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.bars.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Note(text):
                self.bars.update(self.task, note=text)
                self._say(text, always=True)
            case ExpertsStarted(experts, epochs):
                self._begin("experts", experts * epochs)
            case ExpertResumed(expert, epoch):
                self.epochs[expert] = epoch
                self._say(f"expert {expert} resumed after epoch {epoch}", always=True)
            case ExpertEpoch(expert, epoch):
                self.epochs[expert] = epoch
                self.done = sum(self.epochs.values())
                self._advance(f"expert {expert} epoch {epoch} test {100 * event.test_accuracy:.1f} %")
            case DistillingStarted(steps):
                self._begin("distilling", steps)
            case DistillingResumed(step, run_id):
                source = f" of the shorter run {run_id}" if run_id else ""
                self._say(f"resumed after step {step}{source}", always=True)
            case DistillingCutShort(step):
                self._say(f"the time given is over after step {step} of {self.total}: publishing", always=True)
            case StepDone(step, metrics, accuracy, judged):
                self.done = step
                when = "" if judged is None else f" at step {judged}"
                shown = f" accuracy {100 * accuracy:.1f} %{when}" if accuracy is not None else ""
                self._advance(f"loss {metrics['loss']:.4f}{shown}")

    def _begin(self, title: str, total: int) -> None:
        self.done, self.total, self.title, self.first = 0, total, title, None
        self.epochs.clear()
        self.bars.update(self.task, description=title, total=total, completed=0, note="workers are starting")
        if not self.live:
            self.console.print(f"{title}: workers are starting")

    def _advance(self, note: str) -> None:
        now = time.monotonic()
        self.first = self.first or (now, self.done)
        seconds = now - self.first[0]
        # Steps arrive in bundles: the speed of one bundle says nothing.
        rate = (self.done - self.first[1]) / seconds if seconds > QUICK_SECONDS else 0.0
        speed = f"  {rate:.2f} it/s" if rate else ""
        self.bars.update(self.task, completed=self.done, note=f"{note}{speed}")
        left = f" {(self.total - self.done) / rate:.0f} s left" if rate else ""
        self._say(f"{self.title} {self.done}/{self.total} {note}{speed[1:]}{left}")

    def _say(self, text: str, always: bool = False) -> None:
        if self.live:
            return
        if always or self.done == self.total or time.monotonic() - self.said > LINE_SECONDS:
            self.said = time.monotonic()
            self.console.print(text, soft_wrap=True)


class Reading:
    """A context manager; call it with (what, done, total) while data are read. Quick reads are not shown."""

    def __init__(self, console: Console):
        self.console, self.live = console, False
        self.started = self.said = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
        self.bars = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
        self.task = self.bars.add_task("reading", total=None)

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.bars.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self.console.is_terminal and now - self.started > QUICK_SECONDS:
            self.live = True
            self.bars.start()
            self.bars.update(self.task, description=what, completed=done, total=total)
        elif not self.console.is_terminal and now - self.said > LINE_SECONDS:
            self.said = now
            self.console.print(f"{what} {done}/{total}", soft_wrap=True)
