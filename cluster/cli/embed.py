"""`stillhouse embed RUN`: real test images and the distilled set on one map, in the feature space of a trained network.

The network is the first expert that the store holds for the run's recipe, after its last epoch; without one, a network
trained here on all training images for experts.epochs epochs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli import common
from cluster.cli.options import Overrides, RunName, Store, app


@dataclass(frozen=True)
class TrainedNetwork:
    """A network trained on the real images, and where it came from."""

    theta: object
    """Parameters (p,)."""
    epochs: int
    origin: str
    test_accuracy: float


@app.command()
def embed(
    run: RunName,
    overrides: Overrides = None,
    store: Store = None,
    images: Annotated[int, typer.Option(min=1, help="Real test images on the map, at most.")] = 2000,
    classes: Annotated[int, typer.Option(min=1, max=10, help="Show only the first classes, this many.")] = 10,
    out: Annotated[Path | None, typer.Option(metavar="PNG", help="Picture [default: RECIPE-embed.png]")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Also write every image's position to this file.")] = None,
):
    """Draw real test images and a distilled set on one map (t-SNE of a trained network's features)."""
    from cluster.jobs import evaluating
    from cluster.jobs.progress import Reading
    from cluster.jobs.request import check_data
    from distill import context as contexts
    from distill import data
    from distill import embed as maps
    from distill.recipe import override

    url, tracking, _ = common.places(store)
    common.log_to_console()
    published = evaluating.find(run, url, tracking)
    recipe = common.absolute(override(published.recipe, overrides or [], run))
    with Reading(common.console) as reading:
        dataset = data.load(recipe.dataset, published.recipe["seed"], contexts.device_of(recipe.device), reading)
    check_data(published, recipe, dataset.parts)
    context = common.with_threads(contexts.prepare(recipe, dataset=dataset))
    trained = network_of(context, url)
    made = _map(context, trained, published, images, min(classes, maps.MOST_CLASSES))
    path = out or Path(f"{recipe.name}-embed.png")
    maps.draw(made, title(run, url, context, trained, made), path)
    common.console.print(f"picture   {path.absolute()}", soft_wrap=True)
    about = {"run": run, "network": recipe.network.label, "epochs": trained.epochs, "origin": trained.origin}
    common.write_json(json, {**about, "test_accuracy": trained.test_accuracy, **made.as_dict()})


def network_of(context, url: str) -> TrainedNetwork:
    """The recipe's first expert if the store has it, else a network trained now, on this machine."""
    from distill import train
    from distill.accuracy import accuracy, probe

    if found := _expert(context, url):
        return found
    step, epochs = train.expert_step(context), context.recipe.experts.epochs
    common.console.print(f"the store holds no expert of this recipe: training a network for {epochs} epochs")
    with common.console.status("") as status:
        for epoch, latest in train.expert_epochs(context, step, 0):
            theta = latest
            status.update(f"training a network on the real images: epoch {epoch} of {epochs}")
    seen = probe(context.data.train).x.split(context.recipe.experts.batch)
    score = accuracy(step, theta, context.data.test, seen=seen)
    return TrainedNetwork(theta, epochs, "trained here on all training images", score)


def _expert(context, url: str) -> TrainedNetwork | None:
    """Expert 0 of the set that the recipe uses. Raises TrajectoryError when a set that it names is not there."""
    from cluster.jobs.experts import find_reader, open_set

    named = context.recipe.objective.expert_set
    reader = open_set(context, url) if named else find_reader(context, url)
    if reader is None:
        return None
    theta, epoch = reader.snapshot(0, reader.epochs[-1]).to(context.device), reader.epochs[-1]
    return TrainedNetwork(theta, epoch, f"expert 0 of {reader.name}", reader.test_accuracy(0)[-1])


def _map(context, trained: TrainedNetwork, published, images: int, classes: int):
    """The Embedding of at most `images` test images and of the distilled images of the first `classes` classes."""
    from distill.accuracy import probe
    from distill.embed import chosen, embed, features

    network, test, device = context.network, context.data.test, context.device
    seen = probe(context.data.train).x.split(context.recipe.experts.batch)
    statistics = network.statistics(trained.theta, seen)
    labels = published.labels.argmax(1)
    parts = []
    for x, y in ((test.x, test.y), (published.images.to(device), labels.to(device))):
        rows = chosen(y, classes, images, context.seed)
        parts += [features(network, trained.theta, x[rows], statistics), y[rows].cpu().numpy()]
    with common.console.status("t-SNE"):
        return embed(*parts, context.data.classes[:classes])


def title(what: str, url: str, context, trained: TrainedNetwork, made) -> str:
    """Two lines: the run with its accuracy, and the network whose features these are with its own."""
    from cluster.results.runs import Run
    from cluster.store import open_store
    from distill.text import percent

    result = Run(open_store(url), what).result() if "/" not in what and "@" not in what else None
    first = what
    if result:
        score = percent({"mean": result["test_mean"], "std": result["test_std"], "n": result["test_n"]})
        first += f": {score} % on the test images (n={result['test_n']})"
    shown, total = len(made.classes), context.classes
    part = f", first {shown} of {total} classes" if shown < total else ""
    second = f"features of {context.recipe.network.label}, {trained.origin}, {trained.epochs} epochs"
    return f"{first}{part}\n{second}: {100 * trained.test_accuracy:.1f} %"
