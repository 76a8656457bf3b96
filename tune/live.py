"""What a sweep shows while it runs: a table on a terminal, one plain line per event in a log."""

import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

from cluster.jobs.events import Event
from cluster.jobs.progress import Bar
from tune.journal import SweepTrial
from tune.reading import Plan
from tune.searchers import JournalSearcher
from tune.watching import Watch

ROWS = 24
"""Trials shown at a time: running ones first, then the best."""


class Screen(Watch):
    """Shows the trials of a sweep on a console."""

    def __init__(self, console: Console):
        self.console, self.bar = console, Bar(console)
        self.live: Live | None = None
        self.results: dict[int, dict] = {}
        self.started = time.monotonic()

    def event(self, event: Event) -> None:
        self.bar(event)

    def begin(self, plan: Plan, searcher: JournalSearcher) -> None:
        """Trials start."""
        self.plan, self.searcher = plan, searcher
        kept = sum(trial.end is not None for trial in searcher.trials.values())
        unfinished = len(searcher.trials) - kept
        if searcher.trials:
            self.console.print(f"resuming: {kept} trials have ended, {unfinished} continue from their last checkpoint")
        if self.console.is_terminal:
            self.live = Live(console=self.console, get_renderable=self.table, refresh_per_second=2)
            self.live.start()

    def close(self) -> None:
        """All trials have ended."""
        if self.live:
            self.live.stop()
            self.live = None

    def on_trial_result(self, iteration, trials, trial, result, **info) -> None:
        self.results[result["number"]] = result
        if result["status"] == "running":
            self._say(f"trial {result['number']} step {result['step']}: {_percent(result)}")

    def on_trial_complete(self, iteration, trials, trial, **info) -> None:
        self._ended(self.searcher.trials[trial.config["number"]])

    def on_trial_error(self, iteration, trials, trial, **info) -> None:
        number = trial.config["number"]
        self._say(f"trial {number}: its process was killed; it restarts from its last checkpoint")

    def _ended(self, trial: SweepTrial) -> None:
        result = self.results.get(trial.number, {})
        status = result.get("status", "running")
        status = trial.status if status == "running" else status
        message = result.get("message", "").splitlines()[:1]
        self._say(f"trial {trial.number} {status}: {_percent(result)} {' '.join(message)}".rstrip())

    def _say(self, text: str) -> None:
        if not self.live:
            self.console.print(text, soft_wrap=True)

    def table(self) -> Table:
        """Running trials and the best of the others."""
        done = sum(trial.end is not None for trial in self.searcher.trials.values())
        title = f"{self.plan.sweep.name}: {done} of {self.plan.sweep.trials()} trials, {self._clock()}"
        columns = ("trial", *heads(list(self.plan.sweep.search)), "step", "accuracy, %", "best, %", "status")
        table = Table(*columns, title=title, title_justify="left")
        for trial in self._ranked()[:ROWS]:
            table.add_row(*self._row(trial))
        return table

    def _ranked(self) -> list[SweepTrial]:
        def rank(trial: SweepTrial) -> tuple:
            best = self.results.get(trial.number, {}).get(
                "best_accuracy", trial.best.best_accuracy if trial.best else -1
            )
            return trial.end is not None, -best

        return sorted(self.searcher.trials.values(), key=rank)

    def _row(self, trial: SweepTrial) -> list[str]:
        result = self.results.get(trial.number) or (vars(trial.best) if trial.best else {})
        drawn = result.get("values") or trial.values
        values = [brief(drawn[path]) for path in self.plan.sweep.search]
        figures = [f"{100 * result[k]:.1f}" if k in result else "" for k in ("accuracy", "best_accuracy")]
        style = {"running": "cyan", "finished": "green", "stopped": "dim"}.get(trial.status, "red")
        return [str(trial.number), *values, str(result.get("step", 0)), *figures, f"[{style}]{trial.status}[/]"]

    def _clock(self) -> str:
        return time.strftime("%H:%M:%S", time.gmtime(time.monotonic() - self.started))


def brief(value, items: int = 4) -> str:
    """A value as tables show it; a list longer than `items` is cut."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return str(value.get("kind", ""))
    if isinstance(value, list):
        shown = [*map(brief, value if len(value) <= items else value[:2]), *["..."] * (len(value) > items)]
        return " ".join(shown).strip()
    return str(value)


def heads(paths: list[str]) -> list[str]:
    """Column heads of paths: their last parts if these differ, else the paths."""
    short = [", ".join(part.split(".")[-1] for part in path.split(",")) for path in paths]
    return short if len(set(short)) == len(short) else paths


def _percent(result: dict) -> str:
    if "accuracy" not in result:
        return ""
    return f"{100 * result['accuracy']:.1f} % (best {100 * result['best_accuracy']:.1f} %)"
