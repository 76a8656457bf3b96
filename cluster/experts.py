"""Training experts: Ray Train workers take the next unfinished expert each and write its trajectory to the store.

stillhouse experts mtt-cifar10-1ipc experts.workers=4
"""

from dataclasses import dataclass

import ray
import torch

from cluster import group
from cluster.home import home
from cluster.store import open_store
from cluster.store.cache import Cache
from cluster.trajectories import ExpertRecord, SetSpec, TrajectorySet
from distill import context as contexts
from distill import train
from distill.accuracy import accuracy, probe
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
    return f"{context.recipe.network.kind}-{context.recipe.experts_id(context.data.fingerprint)}"


def spec_of(context: Context) -> SetSpec:
    """What all experts of a recipe share."""
    recipe = context.recipe
    return SetSpec(
        recipe_hash=recipe.experts_id(context.data.fingerprint),
        dataset=context.data.fingerprint,
        network=recipe.network.model_dump(mode="json"),
        layout=list(context.network.layout.entries),
        epochs=list(range(recipe.experts.epochs + 1)),
        dtype=recipe.experts.dtype,
    )


def open_reader(context: Context, store_url: str):
    """The experts a recipe matches. Raises TrajectoryError when they are missing or do not fit."""
    o = context.recipe.objective
    own = not o.trajectories
    experts = TrajectorySet(open_store(store_url), o.trajectories or set_name(context))
    cache = Cache(home() / "cache" / "snapshots") if store_url.startswith("s3:") else None
    reader = experts.open(minimum=context.recipe.experts.count if own else None, cache=cache)
    reader.check(
        context.data.fingerprint, context.recipe.network.model_dump(mode="json"), context.network.layout.entries
    )
    if o.max_start_epoch + o.expert_epochs > reader.epochs[-1]:
        raise TrajectoryError(
            f"objective.max_start_epoch + objective.expert_epochs = {o.max_start_epoch + o.expert_epochs} is beyond "
            f"the {reader.epochs[-1]} epochs that {experts.name} holds; lower them or train more epochs"
        )
    return reader


def train_experts(context: Context, store_url: str, on_event: group.Event) -> Trained:
    """Train what is missing of a recipe's experts and seal the set. Needs a Ray session."""
    recipe, store = context.recipe, open_store(store_url)
    store.check_writable()
    experts = TrajectorySet(store, set_name(context))
    spec, count = spec_of(context), recipe.experts.count
    missing = sorted(set(range(count)) - set(experts.finished()))
    if missing:
        on_event({"kind": "plan", "experts": len(missing), "epochs": recipe.experts.epochs})
        config = {
            "recipe": recipe.model_dump(mode="json"),
            "store": store_url,
            "ray_storage": group.scratch_url(store_url),
        }
        group.run(_train, config, recipe, min(recipe.experts.workers, len(missing)), on_event, missing)
    experts.seal(spec, count)
    size = sum(entry.size for entry in store.list(f"experts/{experts.name}/"))
    return Trained(experts.name, count, len(missing), size)


def _train(worker: group.Worker, config: dict) -> None:
    """One worker: experts from the board until none is left."""
    context = contexts.prepare(Recipe.model_validate(config["recipe"]), device=worker.device)
    step = train.expert_step(context)
    experts, spec = TrajectorySet(open_store(config["store"]), set_name(context)), spec_of(context)
    while (index := ray.get(worker.board.take.remote(worker.rank))) is not None:
        experts.write_expert(spec, train_one(context, step, index, worker))


def train_one(context: Context, step, index: int, worker: group.Worker | None = None) -> ExpertRecord:
    """Train expert `index` from its first epoch to its last."""
    snapshots, on_train, on_test = [], [], []
    for epoch, theta in train.expert_epochs(context, step, index):
        snapshots.append(theta.cpu())
        on_train.append(accuracy(step, theta, probe(context.data.train)))
        on_test.append(accuracy(step, theta, context.data.test))
        if worker:
            worker.post("expert", expert=index, epoch=epoch, train_accuracy=on_train[-1], test_accuracy=on_test[-1])
    return ExpertRecord(index, torch.stack(snapshots), on_train, on_test, context.recipe.experts.seed)
