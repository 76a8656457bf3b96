"""What Ray Tune calls while a sweep runs: whoever watches, and the budget."""

import time
from collections.abc import Callable

from ray import tune
from ray.tune import Stopper

from cluster.jobs.events import Event
from tune.journal import Trial
from tune.reading import Plan
from tune.searchers import Journalled


class Watch(tune.Callback):
    """Hears of everything that happens; the terminal shows it (tune/live.py)."""

    def event(self, event: Event) -> None:
        """Something a worker posted while experts were trained or the winner was published."""

    def begin(self, plan: Plan, searcher: Journalled) -> None:
        """Trials begin."""

    def close(self) -> None:
        """No trial runs any more."""

    def __getstate__(self) -> dict:
        return {}  # Ray Tune pickles its callbacks; a terminal cannot be


class Limits(Stopper):
    """Ends a sweep when its hours or its outer steps are used up."""

    def __init__(self, plan: Plan, past: list[Trial], used_up: Callable[[], None]):
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
