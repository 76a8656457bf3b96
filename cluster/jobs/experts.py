"""Training experts: Ray workers take the next unfinished expert each and write its trajectory to the store.

stillhouse experts mtt-cifar10-1ipc experts.workers=4
"""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import ray

from cluster.home import home
from cluster.jobs import group, partial
from cluster.jobs.datasets import shared_context
from cluster.jobs.events import Event, ExpertEpoch, ExpertsStarted
from cluster.jobs.growing import Grower
from cluster.results.claims import claimed
from cluster.stopping import MARK_SECONDS, Stopped, within
from cluster.store import open_store
from cluster.store.cache import Cache
from cluster.tracking.curves import Curves
from cluster.trajectories import Reader, SetSpec, TrajectorySet
from distill.context import Context
from distill.errors import ExpertsMissing, StopRequested, TrajectoryError
from distill.recipe import Recipe


@dataclass(frozen=True)
class TrainedSet:
    """A recipe's experts once all of them are trained."""

    name: str
    count: int
    new: int
    """How many of them were trained by this command."""
    bytes: int


def spec_of(context: Context) -> SetSpec:
    """What all experts of a recipe share."""
    recipe = context.recipe
    return SetSpec(
        recipe_hash=recipe.experts_id(context.data.fingerprint),
        dataset=context.data.fingerprint,
        network=recipe.network.model_dump(mode="json"),
        layout=list(context.network.layout.entries),
        epochs=recipe.experts.saved_epochs,
        dtype=recipe.experts.dtype,
    )


def needed_part(context: Context) -> Context:
    """The same with experts.count lowered to the experts that the recipe needs: what is to be trained for it."""
    experts = context.recipe.experts.model_copy(update={"count": context.recipe.experts_needed})
    return replace(context, recipe=context.recipe.model_copy(update={"experts": experts}))


def open_reader(context: Context, store_url: str) -> Reader:
    """The experts that a recipe needs.

    Raises ExpertsMissing when the store does not hold them, TrajectoryError when they are damaged or do not fit.
    """
    last = context.recipe.objective.last_expert_epoch
    reader = open_set(context, store_url, context.recipe.experts_needed)
    if last > reader.epochs[-1]:
        raise TrajectoryError(
            f"objective.max_start_epoch + objective.expert_epochs = {last} is beyond the {reader.epochs[-1]} epochs "
            f"that {reader.name} holds; lower them or train more epochs"
        )
    return reader


def find_reader(context: Context, store_url: str) -> Reader | None:
    """All experts of the set that a recipe uses, whatever its objective; None if the store holds no such set.

    Raises TrajectoryError when they are damaged or do not fit.
    """
    try:
        return open_set(context, store_url)
    except ExpertsMissing:
        return None


def open_set(context: Context, store_url: str, count: int | None = None) -> Reader:
    """The first `count` experts, by default all, of the set that a recipe uses, whatever its objective.

    Raises ExpertsMissing when the store does not hold them, TrajectoryError when they are damaged or do not fit.
    """
    recipe, fingerprint = context.recipe, context.data.fingerprint
    experts = TrajectorySet(open_store(store_url), recipe.experts_name(fingerprint))
    cache = Cache(home() / "cache" / "snapshots") if store_url.startswith("s3:") else None
    reader = experts.open(cache=cache)
    reader.check(fingerprint, recipe.network.model_dump(mode="json"), context.network.layout.entries)
    return experts.open(count, cache) if count else reader


def about(context: Context) -> dict[str, str | int]:
    """What people call a set's data: its folder or file, else its kind; and the recipe that trained it first."""
    settings, data = context.recipe.dataset, context.data
    name = Path(getattr(settings, "path", "")).name or settings.kind
    subset = getattr(settings, "subset", None)
    return {
        "dataset": f"{name}, {subset}" if subset else name,
        "reader": settings.kind,
        "preprocess": settings.preprocess,
        "classes": len(data.classes),
        "images": len(data.train),
        "shape": "x".join(map(str, data.shape)),
        "recipe": context.recipe.name,
    }


def train_experts(
    context: Context,
    store_url: str,
    dataset: ray.ObjectRef,
    on_event: group.OnEvent,
    tracking_uri: str | None = None,
    deadline: float | None = None,
) -> TrainedSet:
    """Train what is missing of a recipe's experts and seal the set; their accuracies go to MLflow. Needs a Ray session.

    `dataset` is the context's data, shared by share(). Run again after a kill it continues; with a larger
    experts.count the set grows. Without a tracking store nothing is tracked. Workers begin no expert that would end
    after the `deadline` (time.monotonic()), except the first of each: the set may then have fewer.
    """
    group.uses_gpu(context.recipe.device)  # an absent device is refused before anything is written
    store = open_store(store_url)
    store.check_writable()
    experts, count = own_set(context, store_url), context.recipe.experts.count
    missing = _missing(experts, count)
    if missing or experts.sealed() < count:
        with claimed(store, f"experts/{experts.name}"):
            missing = _missing(experts, count)  # fewer if another command worked on them while this one waited
            count = _complete(context, experts, missing, dataset, on_event, tracking_uri, deadline)
    size = sum(entry.size for entry in experts.entries() if not entry.key.startswith(partial.folder(experts.name)))
    return TrainedSet(experts.name, count, len(set(missing) & set(range(count))), size)


def _missing(experts: TrajectorySet, count: int) -> list[int]:
    return sorted(set(range(count)) - set(experts.finished()))


def own_set(context: Context, store_url: str) -> TrajectorySet:
    """The set that a recipe's own experts go to."""
    return TrajectorySet(open_store(store_url), context.recipe.own_experts_name(context.data.fingerprint))


def _complete(
    context: Context,
    experts: TrajectorySet,
    missing: list[int],
    dataset: ray.ObjectRef,
    on_event: group.OnEvent,
    tracking_uri: str | None,
    deadline: float | None,
) -> int:
    """Train the missing experts and seal the set, and return how many it has; epochs go to MLflow and `on_event`."""
    curves = Curves.of(context, experts.name, tracking_uri)

    def on_both(event: Event) -> None:
        if isinstance(event, ExpertEpoch):
            accuracies = {"train_accuracy": event.train_accuracy, "test_accuracy": event.test_accuracy}
            curves.expert(event.expert, event.epoch, accuracies)
        on_event(event)

    try:
        experts.describe(about(context))
        if missing:
            _run_workers(context.recipe, experts.store.url, missing, dataset, on_both, deadline)
        count = context.recipe.experts.count if deadline is None else _unbroken(experts, context.recipe.experts.count)
        experts.seal(spec_of(context), count)
    except Stopped:
        within(MARK_SECONDS, curves.stop)
        raise
    except Exception:
        curves.fail()
        raise
    partial.sweep(experts.store, experts.name, set(experts.finished()))
    curves.finish(experts.open())
    return count


def _unbroken(experts: TrajectorySet, most: int) -> int:
    """How many experts there are from the first on, without a gap."""
    finished = set(experts.finished())
    return next((i for i in range(most) if i not in finished), most)


def _run_workers(
    recipe: Recipe,
    store_url: str,
    missing: list[int],
    dataset: ray.ObjectRef,
    on_event: group.OnEvent,
    deadline: float | None,
) -> None:
    """Hand groups of experts.together experts out to workers, by the first of each."""
    o, groups = recipe.experts, _groups(missing, recipe.experts.together)
    on_event(ExpertsStarted(len(groups) * o.together, o.epochs))
    config = {"recipe": recipe.model_dump(mode="json"), "store": store_url, "dataset": dataset}
    group.run(_train, config, recipe, min(o.workers, len(groups)), on_event, groups, o.gpus_per_worker, deadline)


def _groups(missing: list[int], together: int) -> list[int]:
    """The first of each group of experts that has one missing: a group is trained whole."""
    return sorted({i - i % together for i in missing})


def _train(worker: group.Worker, config: dict) -> None:
    """One worker: experts from the board until none is left, or there is no time for another."""
    context = shared_context(config, worker.device)
    grower = Grower(context, own_set(context, config["store"]), spec_of(context), worker.post, worker.stopping)
    deadline, longest = worker.deadline() or math.inf, 0.0
    for first in worker.items():
        started = time.monotonic()
        if longest and started + longest > deadline:
            return
        try:
            grower.grow(first)
            longest = max(longest, time.monotonic() - started)
        except StopRequested as stop:
            worker.saved(f"with the state of {stop}")
            raise


def train_here(context: Context, store_url: str) -> None:
    """Train what is missing of a recipe's experts in this process, without Ray workers or tracking."""
    experts, count = own_set(context, store_url), context.recipe.experts.count
    grower = Grower(context, experts, spec_of(context))
    for first in _groups(sorted(set(range(count)) - set(experts.finished())), context.recipe.experts.together):
        grower.grow(first)
    experts.seal(spec_of(context), count)
