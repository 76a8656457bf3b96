"""What Ray Tune calls during a sweep: the display, and the budget."""

import time
from collections.abc import Callable

from ray import tune
from ray.tune import Stopper

from cluster.jobs.events import Event
from tune.journal import SweepTrial
from tune.reading import Plan
from tune.searchers import JournalSearcher


class Watch(tune.Callback):
    """Receives all events of a sweep; tune/live.py shows them."""

    def event(self, event: Event) -> None:
        """An event of a worker that trains experts or publishes the winner."""

    def begin(self, plan: Plan, searcher: JournalSearcher) -> None:
        """Trials start."""

    def close(self) -> None:
        """All trials have ended."""

    def __getstate__(self) -> dict:
        return {}  # Ray Tune pickles its callbacks; a terminal cannot be pickled


class Limits(Stopper):
    """Ends a sweep once its hours or outer steps are used up."""

    def __init__(self, plan: Plan, past: list[SweepTrial], used_up: Callable[[], None]):
        b = plan.sweep.budget
        self.deadline = time.monotonic() + 3600 * b.hours if b.hours else None
        self.most = b.steps
        self.steps = {t.number: t.best.step for t in past if t.best}
        self.used_up = used_up

    def __call__(self, trial_id: str, result: dict) -> bool:
        self.steps[result["number"]] = result["step"]
        return False

    def stop_all(self) -> bool:
        late = self.deadline is not None and time.monotonic() > self.deadline
        spent = bool(self.most) and sum(self.steps.values()) >= self.most
        if late or spent:
            self.used_up()
        return late or spent

    def __getstate__(self) -> dict:
        return {}
