"""Runs a sweep: trains experts once, runs trials under Ray Tune, publishes the winner.

stillhouse sweep digits-rates
"""

import itertools
import logging
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray
import torch
from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig
from ray.tune.schedulers import TrialScheduler

from cluster.jobs import distilling, experts, group
from cluster.jobs.board import Board
from cluster.jobs.datasets import share, shared_context
from cluster.jobs.events import Note
from cluster.jobs.fitting import refuse_unfit
from cluster.jobs.session import gpus, on_this_node
from cluster.results.claims import claimed
from cluster.results.runs import Run
from cluster.stopping import MARK_SECONDS, Stopped, within
from cluster.store import open_store, ray_url
from cluster.tracking.run import Tracker
from distill.context import Context
from distill.errors import DeviceError, ExpertsMissing, StoreError
from distill.recipe import Recipe, digest
from tune import schedulers, searchers
from tune.journal import FINISHED, Journal, SweepTrial
from tune.library import Library, key_of
from tune.reading import Plan
from tune.searchers import JournalSearcher
from tune.trial import Shared, run_trial
from tune.watching import Limits, Watch

RESTARTS = 3
"""Times that a trial is restarted from its last checkpoint after its process or node was killed."""
MOST_SETS = 64
"""Up to this many sets of experts are trained before the trials; beyond it, trials train their own."""
TUNE_CHECKPOINTS = 3
"""Checkpoints of a pbt trial that Ray Tune keeps, for other trials to continue from."""


@dataclass(frozen=True)
class Places:
    """Where a sweep writes: URLs of the store and of MLflow, and a local folder."""

    store: str
    tracking: str
    home: Path


def sweep_id(plan: Plan, fingerprint: str) -> str:
    """Id of a sweep: its name and a digest of everything that decides which trials are drawn.

    Budget, resources and concurrency are left out: a sweep may be resumed with others.
    """
    left_out = {"name", "about", "recipe", "overrides", "budget", "resources", "concurrency", "publish"}
    about = plan.sweep.model_dump(mode="json", exclude=left_out)
    return f"{plan.sweep.name[:40]}-{digest({'sweep': about, 'recipe': plan.base.run_id(fingerprint)})}"


def open_journal(plan: Plan, context: Context, store_url: str, resume: bool) -> Journal:
    """The journal of a sweep. Raises StoreError if it exists and `resume` is false, or the reverse."""
    journal = Journal(open_store(store_url), sweep_id(plan, context.data.fingerprint))
    url = f"{store_url}/{journal.folder}"
    if journal.started() and not resume:
        raise StoreError(f"this sweep was started before ({url}): continue it with --resume, or give it another name")
    if resume and not journal.started():
        raise StoreError(f"nothing to resume: no sweep with these settings in {url}; leave --resume out")
    journal.start({"sweep": plan.sweep.model_dump(mode="json"), "recipe": plan.base.model_dump(mode="json")})
    return journal


def run(plan: Plan, context: Context, journal: Journal, places: Places, watch: Watch) -> dict:
    """Run the remaining trials of a sweep and publish the winner; needs a Ray session.

    Returns the winner's result, empty if no trial finished.
    """
    shared = run_trials(plan, context, journal, places, watch)
    winner = best(journal.trials(), plan)
    return publish_winner(plan, winner, shared, watch) if winner else {}


def run_trials(plan: Plan, context: Context, journal: Journal, places: Places, watch: Watch) -> Shared:
    """Train what is missing that trials need, experts and runs before them, then run the remaining trials; needs a Ray
    session.

    Raises ClusterError if no node can hold a trial.
    """
    each = {"CPU": plan.sweep.resources.cpus, "GPU": plan.sweep.resources.gpus}
    refuse_unfit(each, 1, "resources.cpus or resources.gpus")
    parent = open_parent(plan, journal, places)
    library = Library.options(scheduling_strategy=on_this_node()).remote()
    ray.get(library.add.remote(key_of(plan.base), [share(context.data)]))
    board = Board.options(scheduling_strategy=on_this_node()).remote()
    shared = _shared(plan, journal, places, parent, library, board)
    past = journal.trials()
    if any(trial.end is None for trial in past) or len(past) < plan.sweep.trials():
        end_runs_before(plan, shared, watch)
        train_missing_experts(plan, shared, watch)
        _tune(plan, context, journal, shared, places, watch)
    return shared


def open_parent(plan: Plan, journal: Journal, places: Places) -> Tracker:
    """The MLflow run of the whole sweep."""
    params = {"sweep": plan.sweep.model_dump(mode="json"), "recipe": plan.base.model_dump(mode="json")}
    name, key = plan.sweep.name, journal.sweep_id
    return Tracker.open(places.tracking, "sweeps", name, key, params, {"stillhouse.sweep": key})


@contextmanager
def killed_if_stopped(journal: Journal, places: Places) -> Iterator[None]:
    """Ctrl-C or SIGTERM in the block mark the sweep's MLflow run, and those of its trials that still run, KILLED."""
    try:
        yield
    except Stopped as stop:
        reason = f"stopped by {stop}"
        within(MARK_SECONDS, lambda: _mark_killed(journal, places, reason))
        raise


def _mark_killed(journal: Journal, places: Places, reason: str) -> None:
    if parent := Tracker.find(places.tracking, "sweeps", journal.sweep_id):
        parent.finish("KILLED")
        parent.end_children("stillhouse.trial", {str(t.number): reason for t in journal.trials() if not t.end})


def best(trials: list[SweepTrial], plan: Plan) -> SweepTrial | None:
    """The finished trial with the best metric; the earliest if several are equal."""
    ended = [t for t in trials if t.status == FINISHED and t.score(plan.sweep.metric) is not None]
    sign = 1 if plan.sweep.mode == "max" else -1
    return max(ended, key=lambda t: (sign * t.score(plan.sweep.metric), -t.number), default=None)


def publish_winner(plan: Plan, winner: SweepTrial, shared: Shared, watch: Watch) -> dict:
    """Judge the winner's set on the test images and put it into the registry, unless that was done before."""
    run = Run(open_store(shared.store), winner.best.run_id)
    if result := run.result():
        return result
    recipe = plan.recipe(winner.best.values)
    dataset, tracked = shared.dataset(recipe.model_dump(mode="json")), shared.tracked(winner.number, winner.best.values)
    return distilling.distill(recipe, run, dataset, shared.tracking, watch.event, workers=1, tracked=tracked)


def train_missing_experts(plan: Plan, shared: Shared, watch: Watch) -> None:
    """Train the experts that trials will read and the store lacks: each distinct set once, before any trial."""
    wanted: dict[str, tuple[Context, ray.ObjectRef]] = {}
    for recipe in expert_recipes(plan):
        config = shared.config(recipe.model_dump(mode="json"))
        context = experts.needed_part(shared_context(config, torch.device("cpu")))
        recipe, name = context.recipe, recipe.experts_name(context.data.fingerprint)
        if name not in wanted or recipe.experts.count > wanted[name][0].recipe.experts.count:
            wanted[name] = context, config["dataset"]
    for context, dataset in wanted.values():
        try:
            experts.open_reader(context, shared.store)
        except ExpertsMissing:
            if context.recipe.objective.expert_set:
                raise
            watch.event(Note("the store does not hold all experts: training them first"))
            experts.train_experts(context, shared.store, dataset, watch.event, shared.tracking)


def end_runs_before(plan: Plan, shared: Shared, watch: Watch) -> None:
    """Bring the runs to their end that trials start from (recipe.before), each distinct one once, before any trial."""
    for recipe in plan.starts():
        config = shared.config(recipe.model_dump(mode="json"))
        _end_run_before(shared_context(config, torch.device("cpu")), shared, watch)


def _end_run_before(context: Context, shared: Shared, watch: Watch) -> None:
    store, before = open_store(shared.store), context.recipe.before
    if before is None or Run(store, context.before_id).result():
        return
    dataset = shared.dataset(before.model_dump(mode="json"))
    first = shared_context({"recipe": before.model_dump(mode="json"), "dataset": dataset}, torch.device("cpu"))
    _end_run_before(first, shared, watch)
    if before.expert_use == "required":
        experts.train_experts(experts.needed_part(first), shared.store, dataset, watch.event, shared.tracking)
    watch.event(Note(f"trials start from what {first.run_id} publishes: bringing it to its end first"))
    run = Run(store, first.run_id)
    with claimed(store, run.folder):
        if not run.result():  # another command may have worked on it while this one waited
            distilling.distill(before, run, dataset, shared.tracking, watch.event, before=first.before_id)


def expert_recipes(plan: Plan) -> list[Recipe]:
    """One recipe for each combination of searched values that experts may depend on; none if these are infinite."""
    blocks = ("experts", "network", "dataset", "seed")
    space = {p: d for p, d in plan.sweep.search.items() if p.split(".")[0] in blocks}
    lists = [d.finite() for d in space.values()]
    if None in lists:
        return []
    combinations = list(itertools.islice(itertools.product(*lists), MOST_SETS + 1))
    if len(combinations) > MOST_SETS:
        return []
    rest = max(plan.corners(), key=lambda values: plan.recipe(values).experts_needed)
    varied = [plan.recipe({**rest, **dict(zip(space, values, strict=True))}) for values in combinations]
    return [recipe for recipe in varied if recipe.expert_use == "required"]


def _tune(plan: Plan, context: Context, journal: Journal, shared: Shared, places: Places, watch: Watch) -> None:
    past = journal.trials()
    scheduler = schedulers.build(plan)
    searcher = JournalSearcher(plan, journal, searchers.build(plan, past, context), scheduler, past)
    for name in ("ray.tune", "ray.train", "ray.air"):  # tune/live.py shows what matters
        logging.getLogger(name).setLevel(logging.ERROR)
    watch.begin(plan, searcher)
    try:
        with _scratch(journal, places) as storage:
            tuner = _tuner(plan, shared, scheduler, searcher, Limits(plan, past, searcher.end_budget), watch, storage)
            group.watch(tuner.fit, shared.board, watch.event, lambda: len(searcher.running()))
    except Stopped as stop:
        ended = sum(trial.end is not None for trial in searcher.trials.values())
        saved = stop.saved and f", checkpoints saved: {stop.saved}"
        stop.saved = f"{ended} of {plan.sweep.trials()} trials have ended{saved}"
        raise
    finally:
        watch.close()


def _tuner(
    plan: Plan,
    shared: Shared,
    scheduler: TrialScheduler,
    searcher: JournalSearcher,
    limits: Limits,
    watch: Watch,
    storage: str,
) -> tune.Tuner:
    s = plan.sweep
    return tune.Tuner(
        tune.with_resources(
            tune.with_parameters(run_trial, shared=shared), {"CPU": s.resources.cpus, "GPU": s.resources.gpus}
        ),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=s.concurrency or None,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"trial-{trial.config['number']:05d}-{trial.trial_id}",
        ),
        run_config=RunConfig(
            name=f"from-{secrets.token_hex(8)}",
            storage_path=storage,
            failure_config=FailureConfig(max_failures=RESTARTS),
            checkpoint_config=CheckpointConfig(num_to_keep=TUNE_CHECKPOINTS),
            stop=limits,
            callbacks=[watch],
            verbose=0,
        ),
    )


def _shared(plan: Plan, journal: Journal, places: Places, parent: Tracker, library, board) -> Shared:
    r, device = plan.sweep.resources, plan.base.device
    if device.startswith("cuda") and not r.gpus:
        raise DeviceError(f"device = {device!r}, but resources.gpus = 0: give each trial (a part of) a GPU")
    if r.gpus > gpus():
        raise DeviceError(f"resources.gpus = {r.gpus}: the cluster has {gpus()} GPUs; lower it, or set it to 0")
    return Shared(
        sweep_id=journal.sweep_id,
        name=plan.sweep.name,
        base=plan.base.model_dump(mode="json"),
        store=places.store,
        tracking=places.tracking,
        parent=parent.run_id,
        metric=plan.sweep.metric,
        cuda=r.gpus > 0,
        cpus=r.cpus,
        population=plan.sweep.scheduler.kind == "pbt",
        library=library,
        board=board,
        publish=plan.sweep.publish == "all",
    )


@contextmanager
def _scratch(journal: Journal, places: Places) -> Iterator[str]:
    """Location of Ray Tune's own files, reachable by all nodes; deleted afterwards.

    A command that is stopped has no time to delete them in an S3 store; the one that continues does.
    """
    url = ray_url(places.store, f"ray/{journal.sweep_id}")
    local = places.store.startswith("file:")
    if local:
        Path(url).mkdir(parents=True, exist_ok=True)
    stopped = False
    try:
        yield url
    except Stopped:
        stopped = True
        raise
    finally:
        if local:
            shutil.rmtree(url, ignore_errors=True)
        elif not stopped:
            journal.store.delete(f"ray/{journal.sweep_id}", dry_run=False)
