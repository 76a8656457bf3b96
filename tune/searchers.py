"""Searchers: which trials are run. JournalSearcher keeps the journal and wraps an object that draws points.

A point gives each of `space.names` a number: an index into the values of a choice, a value of a range, or a key in
[0, 1) for an item of a permutation. Draws know nothing else about recipes.
"""

import warnings
from typing import Protocol

import optuna
import torch
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from distill import rng
from distill.context import Context
from tune import schedulers
from tune.journal import BUDGET, COUNTED, FAILED, STOPPED, End, Journal, SweepTrial
from tune.reading import Plan
from tune.settings import Sweep
from tune.space import Choice, Permutation, Range, Space, names, values_of

TRADEOFF = ("validation_accuracy", "budget_floats")


class Draws(Protocol):
    """Draws a point per trial number and receives its result."""

    def point(self, number: int) -> dict:
        """The point of a new trial."""

    def result(self, number: int, score: dict | None) -> None:
        """The result of a trial: its metrics, or None if it failed."""


class RandomDraws:
    """Independent points; each depends only on the seed and the trial's number."""

    def __init__(self, sweep: Sweep):
        self.sweep = sweep

    def point(self, number: int) -> dict:
        space = self.sweep.search
        u = torch.rand(
            len(names(space)), generator=rng.generator(self.sweep.seed, "sweep", number), dtype=torch.float64
        )
        return {name: _at(space, name, float(x)) for name, x in zip(names(space), u, strict=True)}

    def result(self, number: int, score: dict | None) -> None:
        pass


class GridDraws(RandomDraws):
    """Every combination in order, the first path slowest."""

    def point(self, number: int) -> dict:
        point = {}
        for path, d in reversed(self.sweep.search.items()):
            number, index = divmod(number, len(d.finite()))
            point[path] = index if isinstance(d, Choice) else d.finite()[index]
        return {path: point[path] for path in self.sweep.search}


class OptunaDraws:
    """Tree-structured Parzen estimators, which also learn from `past`, the trials of earlier commands."""

    def __init__(self, sweep: Sweep, past: list[SweepTrial]):
        self.sweep = sweep
        self.metrics = list(TRADEOFF) if sweep.searcher.tradeoff else [sweep.metric]
        modes = ["max", "min"] if sweep.searcher.tradeoff else [sweep.mode]
        several = len(modes) > 1
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # The number of earlier trials is added to the seed, so that a resumed sweep does not draw the same points.
            sampler = optuna.samplers.TPESampler(seed=sweep.seed + len(past), constant_liar=True)
        self.search = OptunaSearch(
            _distributions(sweep.search),
            metric=self.metrics if several else self.metrics[0],
            mode=modes if several else modes[0],
            sampler=sampler,
            points_to_evaluate=[trial.point for trial in past] or None,
        )
        for trial in past:  # in the same order, so that each gets its recorded point
            self.search.suggest(str(trial.number))

    def point(self, number: int) -> dict:
        return dict(self.search.suggest(str(number)))

    def result(self, number: int, score: dict | None) -> None:
        known = score is not None and all(score.get(name) is not None for name in self.metrics)
        self.search.on_trial_complete(str(number), score if known else None, error=not known)


class JournalSearcher(Searcher):
    """Ray Tune's searcher: unfinished trials of an earlier command first, then new ones; keeps the journal."""

    def __init__(self, plan: Plan, journal: Journal, draws: Draws, scheduler: TrialScheduler, past: list[SweepTrial]):
        super().__init__(metric=plan.sweep.metric, mode=plan.sweep.mode)
        self.plan, self.journal, self.draws, self.scheduler = plan, journal, draws, scheduler
        self.trials: dict[int, SweepTrial] = {trial.number: trial for trial in past}
        self.waiting = [trial for trial in past if trial.end is None]
        self.ids: dict[str, SweepTrial] = {}
        self.out_of_budget = False
        for trial in past:
            if trial.end is not None:
                schedulers.prime(scheduler, plan.sweep, f"past-{trial.number}", trial)
                draws.result(trial.number, metrics_of(trial))

    def suggest(self, trial_id: str) -> dict | str:
        """The next trial's config; FINISHED if there are no more."""
        if self.waiting:
            trial = self.waiting.pop(0)
            schedulers.prime(self.scheduler, self.plan.sweep, trial_id, trial)
        elif len(self.trials) < self.plan.sweep.trials() and not self.out_of_budget:
            trial = self._new()
        else:
            return Searcher.FINISHED
        self.ids[trial_id] = trial
        return {"number": trial.number, "values": trial.best.values if trial.best else trial.values}

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Record the end of a trial: complete, stopped by the scheduler or the budget, or killed too often."""
        trial = self.ids[trial_id]
        result = result or {}
        if result.get("status", "running") != "running":
            trial.end = End(**{key: result[key] for key in ("status", "step", "message", "seconds")})
        else:
            status, message = BUDGET if self.out_of_budget else STOPPED, ""
            if error:
                status = FAILED
                message = "its process was killed repeatedly; the machine may be short of memory"
            trial.end = End(status, result.get("step", 0), message, result.get("seconds", 0.0))
            if trial.status != BUDGET:  # it continues when the budget is raised
                self.journal.end(trial.number, trial.end)
        counts = trial.status in COUNTED and "validation_accuracy" in result
        self.draws.result(trial.number, result if counts else None)

    def running(self) -> list[SweepTrial]:
        """Trials that have started in this command and not ended."""
        return [trial for trial in list(self.ids.values()) if trial.end is None]

    def end_budget(self) -> None:
        """Mark the budget as used up: trials that end from now on are recorded as such."""
        self.out_of_budget = True

    def _new(self) -> SweepTrial:
        number = len(self.trials)
        point = self.draws.point(number)
        trial = SweepTrial(number, point, values_of(self.plan.sweep.search, point))
        self.journal.drawn(trial)
        self.trials[number] = trial
        return trial

    def save(self, checkpoint_path: str) -> None:
        """Ray Tune requires a file here; sweeps are resumed from the journal."""
        with open(checkpoint_path, "w") as file:
            file.write("see the journal\n")

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("sweeps are resumed from their journal")

    def __getstate__(self) -> dict:
        return {}  # Ray Tune pickles its searcher; the pickle is never read


def build(plan: Plan, past: list[SweepTrial], context: Context) -> Draws:
    """The Draws of a sweep; `context` has the recipe's data."""
    kind = plan.sweep.searcher.kind
    if kind == "optuna":
        return OptunaDraws(plan.sweep, past)
    if kind == "order":
        from tune.orders import OrderDraws

        return OrderDraws(plan, past, context)
    return {"random": RandomDraws, "grid": GridDraws}[kind](plan.sweep)


def metrics_of(trial: SweepTrial) -> dict | None:
    """The metrics of a trial whose end counts; None for the others."""
    best = trial.best
    if trial.status not in COUNTED or best is None:
        return None
    return {"validation_accuracy": best.best_accuracy, "loss": best.loss, "budget_floats": best.budget_floats}


def _at(space: Space, name: str, u: float):
    d = space[name.partition("#")[0]]
    if isinstance(d, Permutation):
        return u
    return int(u * len(d.values)) if isinstance(d, Choice) else d.pick(u)


def _distributions(space: Space) -> dict[str, optuna.distributions.BaseDistribution]:
    distributions: dict[str, optuna.distributions.BaseDistribution] = {}
    for name in names(space):
        d = space[name.partition("#")[0]]
        if isinstance(d, Permutation):
            distributions[name] = optuna.distributions.FloatDistribution(0, 1)
        elif isinstance(d, Choice):
            distributions[name] = optuna.distributions.CategoricalDistribution(range(len(d.values)))
        elif isinstance(d, Range):
            distributions[name] = optuna.distributions.FloatDistribution(d.low, d.high, log=d.kind == "loguniform")
        else:
            distributions[name] = optuna.distributions.IntDistribution(d.low, d.high, log=d.log)
    return distributions
