"""Training experts: Ray Train workers take the next unfinished expert each and write its trajectory to the store.

stillhouse experts mtt-cifar10-1ipc experts.workers=4
"""

from dataclasses import dataclass
from pathlib import Path

import ray

from cluster.home import home
from cluster.jobs import group, partial
from cluster.jobs.growing import Grower
from cluster.store import open_store
from cluster.store.cache import Cache
from cluster.tracking.curves import Curves
from cluster.trajectories import Reader, SetSpec, TrajectorySet
from cluster.trajectories.waiting import training, wait_for
from distill import context as contexts
from distill.context import Context
from distill.errors import TrajectoryError
from distill.recipe import Recipe


@dataclass(frozen=True)
class Trained:
    """What is there after the command."""

    name: str
    count: int
    new: int
    bytes: int


def set_name(context: Context) -> str:
    """Name of a recipe's set of experts in the store."""
    return name_of_set(context.recipe, context.data.fingerprint)


def name_of_set(recipe: Recipe, fingerprint: str) -> str:
    """The same from the fingerprint of the data."""
    return f"{recipe.network.kind}-{recipe.experts_id(fingerprint)}"


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


def open_reader(context: Context, store_url: str) -> Reader:
    """The experts a recipe begins with; it asks for the others when they are due.

    Raises TrajectoryError when they are missing or do not fit.
    """
    o = context.recipe.objective
    experts = TrajectorySet(open_store(store_url), matched_set(context))
    cache = Cache(home() / "cache" / "snapshots") if store_url.startswith("s3:") else None
    reader = experts.open(cache=cache)
    reader.check(
        context.data.fingerprint, context.recipe.network.model_dump(mode="json"), context.network.layout.entries
    )
    if o.max_start_epoch + o.expert_epochs > reader.epochs[-1]:
        raise TrajectoryError(
            f"objective.max_start_epoch + objective.expert_epochs = {o.max_start_epoch + o.expert_epochs} is beyond "
            f"the {reader.epochs[-1]} epochs that {experts.name} holds; lower them or train more epochs"
        )
    if reader.count < experts_to_begin(context.recipe):
        experts.open(minimum=experts_to_begin(context.recipe))  # says how many there are
    reader.narrow(experts_to_begin(context.recipe))
    return reader


def find_reader(context: Context, store_url: str) -> Reader | None:
    """The experts of a recipe, whatever its objective, if the store holds them."""
    try:
        if context.recipe.objective.kind == "trajectory":
            return open_reader(context, store_url)
        reader = TrajectorySet(open_store(store_url), set_name(context)).open()
    except TrajectoryError:
        return None
    network = context.recipe.network.model_dump(mode="json")
    reader.check(context.data.fingerprint, network, context.network.layout.entries)
    return reader


def wait_for_first(context: Context, store_url: str) -> None:
    """Return when the experts that a recipe begins with are sealed; ExpertsMissing as soon as nobody trains them."""
    wait_for(TrajectorySet(open_store(store_url), matched_set(context)), experts_to_begin(context.recipe))


def matched_set(context: Context) -> str:
    """Name of the set whose trajectories a recipe matches: the one it names, else its own."""
    return context.recipe.objective.trajectories or set_name(context)


def experts_to_begin(recipe: Recipe) -> int:
    """How many experts must be there before the first outer step."""
    return getattr(recipe.objective, "first_experts", 0) or recipe.experts.count


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


def train_experts(context: Context, store_url: str, on_event: group.Event, tracking_uri: str | None = None) -> Trained:
    """Train what is missing of a recipe's experts and seal the set; their accuracies go to MLflow. Needs a Ray session.

    Run again after a kill it goes on; with a larger experts.count the set grows. Without a tracking store nothing is
    tracked.
    """
    group.uses_gpu(context.recipe.device)  # an absent device is refused before anything is written
    store = open_store(store_url)
    store.check_writable()
    experts, count = TrajectorySet(store, set_name(context)), context.recipe.experts.count
    missing = sorted(set(range(count)) - set(experts.finished()))
    if missing or experts.sealed() < count:
        _complete(context, experts, missing, on_event, Curves.of(context, experts.name, tracking_uri))
    size = sum(entry.size for entry in experts.entries() if not entry.key.startswith(partial.folder(experts.name)))
    return Trained(experts.name, count, len(missing), size)


def _complete(
    context: Context, experts: TrajectorySet, missing: list[int], on_event: group.Event, curves: Curves
) -> None:
    """Train the missing experts and seal the set; `curves` and the terminal are told of every epoch."""
    spec, begin = spec_of(context), experts_to_begin(context.recipe)

    def on_both(event: dict) -> None:
        if event["kind"] == "expert":
            curves.expert(event["expert"], event["epoch"], event)
        if event["kind"] == "written" and experts.sealed() < begin and {*range(begin)} <= {*experts.finished()}:
            experts.seal(spec, begin)  # distilling may begin
        on_event(event)

    try:
        with training(experts):
            experts.describe(about(context))
            if missing:
                _run_workers(context, experts.store.url, missing, on_both)
            experts.seal(spec, context.recipe.experts.count)
    except Exception:
        curves.fail()
        raise
    partial.sweep(experts.store, experts.name, set(experts.finished()))
    curves.finish(experts.open())


def _run_workers(context: Context, store_url: str, missing: list[int], on_event: group.Event) -> None:
    """Hand groups of experts.together experts out to a group of workers, by the first of each."""
    recipe, o = context.recipe, context.recipe.experts
    groups = _groups(missing, o.together)
    on_event({"kind": "plan", "experts": len(groups) * o.together, "epochs": o.epochs})
    config = {
        "recipe": recipe.model_dump(mode="json"),
        "store": store_url,
        "ray_storage": group.scratch_url(store_url),
    }
    group.run(_train, config, recipe, min(o.workers, len(groups)), on_event, groups, o.gpus_per_worker)


def _groups(missing: list[int], together: int) -> list[int]:
    """The first of each group of experts that has one missing: a group is trained whole."""
    return sorted({i - i % together for i in missing})


def _train(worker: group.Worker, config: dict) -> None:
    """One worker: experts from the board until none is left."""
    context = contexts.prepare(Recipe.model_validate(config["recipe"]), device=worker.device)
    grower = Grower(
        context, TrajectorySet(open_store(config["store"]), set_name(context)), spec_of(context), worker.post
    )
    while (first := ray.get(worker.board.take.remote(worker.rank))) is not None:
        grower.grow(first)


def train_here(context: Context, store_url: str) -> None:
    """Train what is missing of a recipe's experts in this process, without Ray workers or tracking."""
    experts, count = TrajectorySet(open_store(store_url), set_name(context)), context.recipe.experts.count
    grower = Grower(context, experts, spec_of(context))
    for first in _groups(sorted(set(range(count)) - set(experts.finished())), context.recipe.experts.together):
        grower.grow(first)
    experts.seal(spec_of(context), count)
