"""FID of a set against its data, in the features of the store's experts or of another network; kept with its run.

stillhouse evaluate gan-digits@best --fid experts
"""

import re
from typing import TYPE_CHECKING

from cluster.jobs.experts import open_set
from cluster.results.runs import Run
from cluster.tracking import registry
from cluster.tracking.run import Tracker
from distill import context as contexts
from distill.errors import RecipeError
from distill.published import Published
from distill.recipe import Recipe

if TYPE_CHECKING:
    from distill.data import Dataset
    from distill.evaluate.fid import FID

CHOICE = re.compile(r"random|experts|(file|inception):.+")


def check(choice: str) -> str:
    """The choice itself, if it is one; else RecipeError."""
    if not CHOICE.fullmatch(choice):
        raise RecipeError(f"--fid {choice}: use experts, random, file:PATH or inception:PATH")
    return choice


def measure(published: Published, recipe: Recipe, choice: str, store_url: str, dataset: "Dataset") -> "FID":
    """FID of a set, at the recipe's truncation, on the device of the recipe, in this process.

    Raises ExpertsMissing if the features are those of experts and the store has none.
    """
    from distill.evaluate.fid import fid  # importing torchmetrics takes a second

    context = contexts.prepare(recipe, dataset=dataset)
    truncation = recipe.evaluation.sampling.truncation
    if choice != "experts":
        return fid(published, context, choice, truncation)
    reader = open_set(context, store_url)
    try:
        return fid(published, context.with_experts(reader), choice, truncation)
    finally:
        reader.close()


def keep(run: Run, measured: "FID", truncation: float) -> None:
    """Keep the figures with the run in the store."""
    run.keep_evaluation({**measured.as_dict(), "truncation": truncation}, kind="fids")


def track(run: Run, published: Published, measured: "FID", tracking_uri: str) -> None:
    """The figures as metrics of the run and as tags of its registered version, each with the name of the features.

    Raises StoreError if MLflow cannot be used.
    """
    tracker = Tracker.find(tracking_uri, "distill", run.run_id)
    if tracker is None:
        return
    values = {"fid": measured.value} | ({} if measured.of_classes is None else {"class_fid": measured.of_classes})
    name = re.sub(r"[^\w.-]+", "-", measured.features)
    tracker.log(0, {f"{metric}/{name}": value for metric, value in values.items()})
    tracker.flush()
    result = run.result() or {}
    if "model" in result:
        tags = {metric: f"{value:.6g}" for metric, value in values.items()} | {"fid_features": measured.features}
        registry.note(result["model"], result["version"], tags, published.classes, tracking_uri)
