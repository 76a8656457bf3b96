"""The workers of an evaluation: each takes the next row and network from the board, trains it, and posts what it found.

What a network scores does not depend on who trains it or on how many workers there are.
"""

import math
from dataclasses import asdict, dataclass

import ray
import torch

from cluster.jobs import experts, group
from distill import context as contexts
from distill import data, synthetic, train
from distill.accuracy import accuracy, probe
from distill.context import Context
from distill.errors import DataError, RecipeError
from distill.evaluate.budget import per_class
from distill.evaluate.rows import Rows
from distill.evaluate.score import Measured
from distill.recipe import Recipe


@dataclass(frozen=True)
class Item:
    """One network to train, of a row of the table."""

    network: int
    """Which kind of network."""
    row: str
    i: int


def items(networks: int, rows: list[str], count: int) -> list[Item]:
    """All that there is to train, kind by kind; the full data, which is trained longest, first."""
    ordered = sorted(rows, key=lambda row: row != "full")
    return [Item(network, row, i) for network in range(networks) for row in ordered for i in range(count)]


def work(worker: group.Worker, config: dict) -> None:
    """Items from the board until none is left. `config` is made by cluster/jobs/evaluating.py."""
    recipe = Recipe.model_validate(config["recipe"])
    dataset = data.load(recipe.dataset, config["data_seed"], worker.device)
    context = contexts.prepare(recipe, device=worker.device, dataset=dataset)
    reader = experts.find_reader(context, config["store"])
    context = context.with_experts(reader) if reader else context
    kinds = [Recipe.model_validate({**config["recipe"], "network": network}) for network in config["networks"]]
    rows, current = _rows(context, config), -1
    real = rows.floats // math.prod(context.data.shape) / context.classes
    worker.post("budget", floats=rows.floats, per_class=per_class(context, rows.floats), real=real)
    while (number := ray.get(worker.board.take.remote(worker.rank))) is not None:
        item = Item(**config["items"][number])
        if item.network != current:
            current = item.network
            rows.use(kinds[current].network)
        _one(worker, rows, kinds[current], item, config["full"])
    if reader:
        reader.close()


def _rows(context: Context, config: dict) -> Rows:
    made = None
    if config["state"] is not None:
        made = synthetic.restore(context, {name: torch.from_numpy(a) for name, a in config["state"].items()})
    floats = (
        made.budget().total if made else round(config["per_class"] * context.classes * math.prod(context.data.shape))
    )
    return Rows(context, floats, made, config["student_lr"], config["trainings"])


def _one(worker: group.Worker, rows: Rows, kind: Recipe, item: Item, full: bool) -> None:
    """Measure an item, with those that are trained beside it, and post it; or why its row cannot be made."""
    try:
        if item.row == "full":
            measured = _full(rows.context, kind, item.i, full)
        else:
            measured = rows.measure(item.row, item.i)
    except (DataError, RecipeError) as error:
        worker.post("skipped", network=item.network, row=item.row, reason=str(error))
        return
    through = rows.evidence.source if item.row in rows.rows else None
    if measured:
        told = ", ".join(f"{100 * one.accuracy[-1]:.1f}" for one in measured)
        worker.post("stage", text=f"{kind.network.label}, {item.row}: {told} %")
    for k, one in enumerate(measured):
        told = {"network": item.network, "row": item.row, "through": through}
        worker.post("measured", i=item.i + k, measured=asdict(one), **told)


def _full(context: Context, kind: Recipe, i: int, full: bool) -> list[Measured]:
    """All training images: the experts of the store, all at once, or network i trained as an expert is."""
    reader = context.experts
    if reader and kind.network == context.recipe.network:
        last = [reader.test_accuracy(k)[-1] for k in range(reader.count)] if i == 0 else []
        return [Measured((reader.epochs[-1],), (value,), ()) for value in last]
    if not full:
        raise RecipeError("the store holds no such experts; --full trains networks on all training images")
    context = contexts.prepare(kind, device=context.device, dataset=context.data)
    step = train.expert_step(context)
    *_, (epoch, theta) = train.expert_epochs(context, step, i)
    seen = probe(context.data.train).x.split(kind.experts.batch)
    return [Measured((epoch,), (accuracy(step, theta, context.data.test, seen=seen),), ())]
