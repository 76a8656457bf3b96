"""The workers of an evaluation: each takes the next row and network from the board, trains it, and posts its accuracy.

What a network scores does not depend on which worker trains it or on how many workers there are.
"""

import math
from dataclasses import dataclass

import torch

from cluster.jobs import experts, group
from cluster.jobs.datasets import shared_context
from cluster.jobs.events import BudgetKnown, NetworkMeasured, Note, RowSkipped
from distill import context as contexts
from distill import synthetic, train
from distill.accuracy import accuracy, probe
from distill.context import Context
from distill.errors import DataError, RecipeError
from distill.evaluate.budget import per_class
from distill.evaluate.rows import Rows
from distill.evaluate.score import Measured
from distill.recipe import Recipe


@dataclass(frozen=True)
class Assignment:
    """One network to train, of a row of the table."""

    network: int
    """Which kind of network."""
    row: str
    number: int
    """Which network of its row."""


def assignments(networks: int, rows: list[str], count: int) -> list[Assignment]:
    """All that there is to train, kind by kind; the full data, which is trained longest, first."""
    ordered = sorted(rows, key=lambda row: row != "full")
    return [Assignment(network, row, i) for network in range(networks) for row in ordered for i in range(count)]


def work(worker: group.Worker, config: dict) -> None:
    """Assignments from the board until none is left. `config` is made by cluster/jobs/evaluating.py."""
    context = shared_context(config, worker.device)
    reader = experts.find_reader(context, config["store"])
    context = context.with_experts(reader) if reader else context
    kinds = [Recipe.model_validate({**config["recipe"], "network": network}) for network in config["networks"]]
    rows, current = _rows(context, config), -1
    real = rows.pixels // math.prod(context.data.shape) / context.classes
    floats = rows.synthetic.budget().total if rows.synthetic else rows.pixels
    worker.post(BudgetKnown(floats, per_class(context, floats), real))
    for item in worker.items():
        assignment = config["assignments"][item]
        if assignment.network != current:
            current = assignment.network
            rows.use(kinds[current].network)
        _measure(worker, rows, kinds[current], assignment, config["full"])
    if reader:
        reader.close()


def _rows(context: Context, config: dict) -> Rows:
    made = None
    if config["state"] is not None:
        made = synthetic.restore(context, {name: torch.from_numpy(a) for name, a in config["state"].items()})
    pixels = (
        made.budget().pixels if made else round(config["per_class"] * context.classes * math.prod(context.data.shape))
    )
    return Rows(context, pixels, made, config["student_lr"], config["networks_trained"])


def _measure(worker: group.Worker, rows: Rows, kind: Recipe, assignment: Assignment, full: bool) -> None:
    """Train a network (and those batched with it) and post the accuracies, or the reason for skipping its row."""
    network, row, number = assignment.network, assignment.row, assignment.number
    try:
        measured = _full(rows.context, kind, number, full) if row == "full" else rows.measure(row, number)
    except (DataError, RecipeError) as error:
        worker.post(RowSkipped(network, row, str(error)))
        return
    seen_by = rows.evidence.source if row in rows.rows else None
    if measured:
        accuracies = ", ".join(f"{100 * one.accuracy[-1]:.1f}" for one in measured)
        worker.post(Note(f"{kind.network.label}, {row}: {accuracies} %"))
    for k, one in enumerate(measured):
        worker.post(NetworkMeasured(network, row, number + k, one, seen_by))


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
