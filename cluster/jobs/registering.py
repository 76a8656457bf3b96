"""A finished set in the model registry and on the page of its run, with all that is known of it.

result = register(context, result, folder, tracker)
"""

from pathlib import Path

from cluster.tracking import card, registry
from cluster.tracking.naming import model_name
from cluster.tracking.provenance import code_version
from cluster.tracking.run import Tracker
from distill.context import Context
from distill.published import FILE, read


def register(context: Context, result: dict, folder: Path, tracker: Tracker) -> dict:
    """Publish the set in `folder` in the registry; returns the result with its `model` and `version`."""
    recipe, data = context.recipe, context.data
    name = model_name(recipe, data.classes, min(data.shape[1:]), result["budget_ipc"])
    tags = {key: str(value) for key, value in tags_of(context, result).items()}
    version = registry.publish(tracker, name, folder, tags)
    card.strip(read(folder)).save(folder / "strip.png")  # after publication: it is no file of the set
    for file in ("strip.png", "images.png"):
        tracker.file(folder / file)
    tracker.describe(card.of_run(tags, data.classes, name, version, tracker.run_id))
    return {**result, "model": name, "version": version}


def parent_run(context: Context) -> str | None:
    """The run whose set this one started from: a GAN trained first, or the run of a store that `start` names."""
    file = context.recipe.synthetic.file or Path()
    *_, runs, run, place = ("", "", "", *(file.parent if file.name == FILE else file).parts)
    return context.before_id or (run if (runs, place) == ("runs", "published") else None)


RESULT_TAGS = (
    "selection_accuracy", "selection", "test_mean", "test_std", "test_n", "protocol", "network", "budget_ipc",
    "budget_floats", "shared_floats", "student_lr", "step", "run_id",
)  # fmt: skip


def tags_of(context: Context, result: dict) -> dict:
    """What a registered version says of itself, so that it can be browsed and compared without its files."""
    recipe, data = context.recipe, context.data
    tags = {key: result[key] for key in RESULT_TAGS}
    tags["budget_bits"] = round(result["budget_bits_per_class"] * context.classes)
    tags |= {"recipe": recipe.name, "paper": recipe.paper, "seed": recipe.seed, "method": recipe.objective.method}
    tags |= {"synthetic": recipe.synthetic.kind, "objective": recipe.objective.kind}
    tags |= {"preprocess": recipe.dataset.preprocess, "data": data.fingerprint, "classes": len(data.classes)}
    tags |= {"parent_run": parent} if (parent := parent_run(context)) else {}
    tags |= {f"data_{part}": digest for part, digest in data.parts.items()}
    return tags | code_version()
