"""Schedulers: which trials continue. Ray Tune's, with time counted in outer steps."""

from dataclasses import dataclass

from ray import tune
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from tune.journal import SweepTrial
from tune.reading import Plan
from tune.settings import Sweep
from tune.space import Choice, Range, Space


def build(plan: Plan) -> TrialScheduler:
    """The scheduler of a sweep."""
    sweep, s = plan.sweep, plan.sweep.scheduler
    common = {"time_attr": "step", "metric": sweep.metric, "mode": sweep.mode}
    if s.kind == "asha":
        searched = sweep.search.get("outer.steps")
        longest = max(searched.corners()) if searched else plan.base.outer.steps
        grace = min(s.grace or plan.base.outer.evaluate_every, longest)
        return AsyncHyperBandScheduler(
            **common, max_t=longest, grace_period=grace, reduction_factor=s.reduction, stop_last_trials=False
        )
    if s.kind == "median":
        # No trial pauses for others: each runs until it ends or is stopped.
        return MedianStoppingRule(
            **common,
            grace_period=s.grace or plan.base.outer.evaluate_every,
            min_samples_required=s.least,
            min_time_slice=float("inf"),
        )
    return _population(plan, common) if s.kind == "pbt" else FIFOScheduler()


def prime(scheduler: TrialScheduler, sweep: Sweep, trial_id: str, trial: SweepTrial) -> None:
    """Give a scheduler the judgements of a trial from before the sweep was interrupted."""
    if sweep.scheduler.kind not in ("asha", "median"):
        return
    stub = _Stub(trial_id)
    if sweep.scheduler.kind == "asha":
        scheduler.on_trial_add(None, stub)
    for report in trial.reports:
        value = report.best_accuracy if sweep.metric == "validation_accuracy" else report.loss
        if value is not None:
            scheduler.on_trial_result(_NoController, stub, {"step": report.step, sweep.metric: value})


@dataclass(frozen=True)
class _Stub:
    """Stands in for Ray's trial."""

    trial_id: str


class _NoController:
    """Stands in for Ray's controller: no live trials, no searcher."""

    search_alg = None

    @staticmethod
    def get_live_trials() -> list:
        return []


def _population(plan: Plan, common: dict) -> PopulationBasedTraining:
    s, space = plan.sweep.scheduler, plan.sweep.search
    return Population(
        **common,
        perturbation_interval=s.every or plan.base.outer.evaluate_every,
        quantile_fraction=s.quantile,
        resample_probability=s.resample,
        hyperparam_mutations={"values": {path: _domain(d) for path, d in space.items()}},
        custom_explore_fn=lambda config: {**config, "values": _clamped(space, config["values"])},
        log_config=False,
    )


class Population(PopulationBasedTraining):
    """Population based training in which a trial keeps its number when it takes over another's config.

    Ray's own class refuses every searcher, since some learn from values that trials no longer have; `random` learns
    nothing.
    """

    def on_trial_add(self, tune_controller, trial) -> None:
        super().on_trial_add(_NoController, trial)

    def _get_new_config(self, trial, trial_to_clone) -> tuple[dict, dict]:
        config, operations = super()._get_new_config(trial, trial_to_clone)
        return {**config, "number": trial.config["number"]}, operations


def _domain(distribution):
    """A distribution as Ray Tune draws from it."""
    if isinstance(distribution, Choice):
        return distribution.values
    if isinstance(distribution, Range):
        draw = tune.loguniform if distribution.kind == "loguniform" else tune.uniform
        return draw(distribution.low, distribution.high)
    return tune.randint(distribution.low, distribution.high + 1)


def _clamped(space: Space, values: dict) -> dict:
    """Perturbed values clamped to the ranges that were checked before the sweep started."""
    kept = {}
    for path, value in values.items():
        d = space[path]
        kept[path] = value if isinstance(d, Choice) else min(max(value, d.low), d.high)
    return kept
