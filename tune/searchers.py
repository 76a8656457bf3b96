"""Searchers: which trials are tried. One that keeps the journal, around one that draws points.

A point gives each of `space.names` a number: an index into the values of a choice, a value of a range, or a key in
[0, 1) for an item of a permutation. Searchers know nothing else of recipes.
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
from tune.journal import BUDGET, FAILED, STOPPED, WELL, End, Journal, Trial
from tune.reading import Plan
from tune.settings import Sweep
from tune.space import Choice, Permutation, Range, Space, names, values_of

TRADEOFF = ("validation_accuracy", "budget_floats")


class Draws(Protocol):
    """Points by trial number; told how they did."""

    def point(self, number: int) -> dict:
        """The point of a trial that begins."""

    def result(self, number: int, score: dict | None) -> None:
        """How a trial ended: its metrics, or None where it went wrong."""


class RandomDraws:
    """Independent points; that of a trial depends on the seed and its number alone."""

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
    """Tree-structured Parzen estimators. `past` are the trials of earlier commands, which it learns from."""

    def __init__(self, sweep: Sweep, past: list[Trial]):
        self.sweep = sweep
        self.metrics = list(TRADEOFF) if sweep.searcher.tradeoff else [sweep.metric]
        modes = ["max", "min"] if sweep.searcher.tradeoff else [sweep.mode]
        several = len(modes) > 1
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Seeds are followed by the number of trials so far: a sweep that goes on draws others than it did before.
            sampler = optuna.samplers.TPESampler(seed=sweep.seed + len(past), constant_liar=True)
        self.search = OptunaSearch(
            _distributions(sweep.search),
            metric=self.metrics if several else self.metrics[0],
            mode=modes if several else modes[0],
            sampler=sampler,
            points_to_evaluate=[trial.point for trial in past] or None,
        )
        for trial in past:  # asked for in the same order, they get the points they had
            self.search.suggest(str(trial.number))

    def point(self, number: int) -> dict:
        return dict(self.search.suggest(str(number)))

    def result(self, number: int, score: dict | None) -> None:
        known = score is not None and all(score.get(name) is not None for name in self.metrics)
        self.search.on_trial_complete(str(number), score if known else None, error=not known)


class Journalled(Searcher):
    """What Ray Tune asks: hands out trials that an earlier command left, then new ones, and keeps the journal."""

    def __init__(self, plan: Plan, journal: Journal, draws: Draws, scheduler: TrialScheduler, past: list[Trial]):
        super().__init__(metric=plan.sweep.metric, mode=plan.sweep.mode)
        self.plan, self.journal, self.draws, self.scheduler = plan, journal, draws, scheduler
        self.trials: dict[int, Trial] = {trial.number: trial for trial in past}
        self.waiting = [trial for trial in past if trial.end is None]
        self.ids: dict[str, Trial] = {}
        self.out_of_budget = False
        for trial in past:
            if trial.end is not None:
                schedulers.prime(scheduler, plan.sweep, f"past-{trial.number}", trial)
                draws.result(trial.number, figures(trial))

    def suggest(self, trial_id: str) -> dict | str:
        """The next trial's config, or that there is none."""
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
        """A trial ended: by itself, stopped by the scheduler or the budget, or killed too often."""
        trial = self.ids[trial_id]
        result = result or {}
        ended = result.get("status", "running") != "running"
        if ended:
            keys = ("status", "step", "message", "seconds")
            trial.end = End(**{key: result[key] for key in keys})
        else:
            step, seconds = result.get("step", 0), result.get("seconds", 0.0)
            trial.end = self._ended_from_outside(error, step, seconds)
            if trial.status != BUDGET:  # with more budget, it goes on
                self.journal.end(trial.number, trial.end)
        well = trial.status in WELL and "validation_accuracy" in result
        self.draws.result(trial.number, result if well else None)

    def end_budget(self) -> None:
        """From now on trials are ended because the budget is used up."""
        self.out_of_budget = True

    def _ended_from_outside(self, error: bool, step: int, seconds: float) -> End:
        if error:
            return End(
                FAILED, step, "its process was killed again and again; the machine may be short of memory", seconds
            )
        return End(BUDGET if self.out_of_budget else STOPPED, step, "", seconds)

    def _new(self) -> Trial:
        number = len(self.trials)
        point = self.draws.point(number)
        trial = Trial(number, point, values_of(self.plan.sweep.search, point))
        self.journal.drawn(trial)
        self.trials[number] = trial
        return trial

    def save(self, checkpoint_path: str) -> None:
        """Ray Tune wants a file here; the journal is what a sweep goes on from."""
        with open(checkpoint_path, "w") as file:
            file.write("see the journal\n")

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep goes on from its journal")

    def __getstate__(self) -> dict:
        return {}  # Ray Tune pickles its searcher; nobody reads that


def build(plan: Plan, past: list[Trial], context: Context) -> Draws:
    """What draws the points of a sweep; `context` has the recipe's data."""
    kind = plan.sweep.searcher.kind
    if kind == "optuna":
        return OptunaDraws(plan.sweep, past)
    if kind == "order":
        from tune.orders import OrderDraws

        return OrderDraws(plan, past, context)
    return {"random": RandomDraws, "grid": GridDraws}[kind](plan.sweep)


def figures(trial: Trial) -> dict | None:
    """The metrics of a trial that ended well."""
    best = trial.best
    if trial.status not in WELL or best is None:
        return None
    return {"validation_accuracy": best.best_accuracy, "loss": best.loss, "budget_floats": best.budget_floats}


def _at(space: Space, name: str, u: float):
    d = space[name.partition("#")[0]]
    if isinstance(d, Permutation):
        return u
    return int(u * len(d.values)) if isinstance(d, Choice) else d.pick(u)


def _distributions(space: Space) -> dict[str, optuna.distributions.BaseDistribution]:
    found: dict[str, optuna.distributions.BaseDistribution] = {}
    for name in names(space):
        d = space[name.partition("#")[0]]
        if isinstance(d, Permutation):
            found[name] = optuna.distributions.FloatDistribution(0, 1)
        elif isinstance(d, Choice):
            found[name] = optuna.distributions.CategoricalDistribution(range(len(d.values)))
        elif isinstance(d, Range):
            found[name] = optuna.distributions.FloatDistribution(d.low, d.high, log=d.kind == "loguniform")
        else:
            found[name] = optuna.distributions.IntDistribution(d.low, d.high, log=d.log)
    return found
