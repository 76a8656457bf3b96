"""Evaluating a published set, with baselines beside it: random real images of the same budget, and the full data.

stillhouse evaluate digits@best
"""

import tempfile
from pathlib import Path

import torch

from cluster import experts, group, registry
from cluster.distilling import budget_ipc
from cluster.runs import Run, run_ids
from cluster.store import open_store
from distill import context as contexts
from distill import export, synthetic, train
from distill.accuracy import accuracy
from distill.context import Context
from distill.errors import DataError, MissingError, StoreError, TrajectoryError
from distill.evaluate import Judge, Score
from distill.export import Published
from distill.recipe import Recipe


def find(what: str, store_url: str, tracking_uri: str) -> Published:
    """The set that `what` names: a path, a run of the store, or a registered model such as digits@best."""
    if Path(what).exists():
        return export.read(Path(what))
    store = open_store(store_url)
    if what in run_ids(store):
        return Run(store, what).published()
    try:
        with tempfile.TemporaryDirectory() as folder:
            return export.read(registry.fetch(what, Path(folder), tracking_uri))
    except (StoreError, MissingError) as error:
        raise DataError(f"{what!r} is no path, no run of {store.url} and no registered model ({error})") from None


def evaluate(published: Published, recipe: Recipe, store_url: str, full: bool, on_event: group.Event) -> dict:
    """Accuracy on the test part of fresh networks trained on the set, and the baselines. Needs a Ray session.

    Returns mean, std and n of the set, its protocol, network and budget, and the same three figures for `random` real
    images of that budget and, where experts are in the store or `full` asks to train networks, for the `full` data.
    """
    found: list[dict] = []

    def keep(event: dict) -> None:
        found.append(event["result"]) if event["kind"] == "result" else on_event(event)

    config = {"recipe": recipe.model_dump(mode="json"), "store": store_url, "full": full}
    config["state"] = {name: tensor.numpy() for name, tensor in published.state.items()}
    config["student_lr"] = published.student_lr
    group.run_one(_work, config, recipe, keep)
    return found[-1]


def _work(worker: group.Worker, config: dict) -> None:
    context = contexts.prepare(Recipe.model_validate(config["recipe"]), device=worker.device)
    judged = synthetic.build(context)
    judged.load_state_dict({name: torch.from_numpy(array) for name, array in config["state"].items()})
    e, judge, test = context.recipe.evaluation, Judge(context), context.data.test
    floats = judged.budget_floats()
    ipc = budget_ipc(context, floats)
    worker.post("stage", text=f"training {e.networks} networks on the distilled set")
    score = judge.score(judged, config["student_lr"] or e.lr, test, e.networks, "evaluate")
    worker.post("stage", text=f"training {e.networks} networks on random real images")
    random = judge.random_real(max(1, int(ipc)), test)
    result = {**score.as_dict(), "protocol": e.protocol, "network": context.recipe.network.label}
    result |= {"budget_floats": floats, "budget_ipc": ipc, "random": random.as_dict()}
    if whole := _full(context, config, worker):
        result["full"] = whole.as_dict()
    worker.post("result", result=result)


def _full(context: Context, config: dict, worker: group.Worker) -> Score | None:
    """Networks trained on all training images as experts are: those of the store, or new ones."""
    try:
        reader = (
            experts.open_reader(context, config["store"]) if context.recipe.objective.kind == "trajectory" else None
        )
    except TrajectoryError:
        reader = None
    if reader:
        return Score(tuple(reader.test_accuracy(i)[-1] for i in range(reader.count)))
    if not config["full"]:
        return None
    step, scores = train.expert_step(context), []
    for i in range(context.recipe.evaluation.networks):
        worker.post("stage", text=f"training network {i + 1} of {context.recipe.evaluation.networks} on the full data")
        *_, (_, theta) = train.expert_epochs(context, step, i)
        scores.append(accuracy(step, theta, context.data.test))
    return Score(tuple(scores))
