"""`stillhouse embed RUN`: real test images and the distilled set on one map, in the feature space of a trained network.

The network is the first expert that the store holds for the run's recipe, after its last epoch; without one, a network
trained here on all training images for experts.epochs epochs.
"""

from dataclasses import dataclass
from pathlib import Path

from cluster.commands import common


@dataclass(frozen=True)
class Trained:
    """A network trained on the real images, and how it was come by."""

    theta: object
    """Parameters (p,)."""
    epochs: int
    origin: str
    test_accuracy: float


def main(
    what: str,
    overrides: list[str],
    store: str | None,
    images: int,
    classes: int,
    out: Path | None,
    json: Path | None,
) -> None:
    from cluster.jobs import evaluating
    from cluster.jobs.asked import check_data
    from cluster.jobs.progress import Reading
    from distill import context as contexts
    from distill import data, embed
    from distill.recipe import override

    url, tracking, _ = common.places(store)
    common.log_to_console()
    published = evaluating.find(what, url, tracking)
    recipe = common.absolute(override(published.recipe, overrides, what))
    with Reading(common.console) as reading:
        dataset = data.load(recipe.dataset, published.recipe["seed"], contexts.device_of(recipe.device), reading)
    check_data(published, recipe, dataset.parts)
    context = _with_threads(contexts.prepare(recipe, dataset=dataset))
    trained = network_of(context, url)
    made = _map(context, trained, published, images, min(classes, embed.MOST_CLASSES))
    path = out or Path(f"{recipe.name}-embed.png")
    embed.draw(made, title(what, url, context, trained, made), path)
    common.console.print(f"picture   {path.absolute()}", soft_wrap=True)
    about = {"run": what, "network": recipe.network.label, "epochs": trained.epochs, "origin": trained.origin}
    common.write_json(json, {**about, "test_accuracy": trained.test_accuracy, **made.as_dict()})


def network_of(context, url: str) -> Trained:
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
    return Trained(theta, epochs, "trained here on all training images", score)


def _expert(context, url: str) -> Trained | None:
    """Expert 0 of the set that the recipe matches, or would. Raises TrajectoryError when a named set does not fit."""
    from cluster.jobs.experts import set_name
    from cluster.store import open_store
    from cluster.trajectories import TrajectorySet
    from distill.errors import TrajectoryError

    named = getattr(context.recipe.objective, "trajectories", "")
    experts = TrajectorySet(open_store(url), named or set_name(context))
    try:
        reader = experts.open()
    except TrajectoryError:
        if named:
            raise
        return None
    reader.check(
        context.data.fingerprint, context.recipe.network.model_dump(mode="json"), context.network.layout.entries
    )
    theta, epoch = reader.snapshot(0, reader.epochs[-1]).to(context.device), reader.epochs[-1]
    return Trained(theta, epoch, f"expert 0 of {experts.name}", reader.test_accuracy(0)[-1])


def _map(context, trained: Trained, published, images: int, classes: int):
    """The Embedding of at most so many test images, and of the distilled images of the first `classes` classes."""
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


def title(what: str, url: str, context, trained: Trained, made) -> str:
    """Two lines: the run with its accuracy, and the network whose features these are with its own."""
    from cluster.results.runs import Run
    from cluster.store import open_store

    result = Run(open_store(url), what).result() if "/" not in what and "@" not in what else None
    first = what
    if result:
        score = common.percent({"mean": result["test_mean"], "std": result["test_std"]})
        first += f": {score} % on the test images (n={result['test_n']})"
    shown, total = len(made.classes), context.classes
    part = f", first {shown} of {total} classes" if shown < total else ""
    second = f"features of {context.recipe.network.label}, {trained.origin}, {trained.epochs} epochs"
    return f"{first}{part}\n{second}: {100 * trained.test_accuracy:.1f} %"


def _with_threads(context):
    """As many CPU threads as the recipe says: the bits of what is trained depend on it."""
    import torch

    torch.set_num_threads(context.recipe.threads or torch.get_num_threads())
    return context
