"""Commands that train: experts, distilled sets, and the networks that judge them."""

from typing import Annotated

import typer

from cluster.cli.options import DryRun, Json, Overrides, RecipeName, RunName, Store, app

Full = Annotated[bool, typer.Option(help="Train networks on the full data when the store holds no experts.")]
Baselines = Annotated[
    str | None,
    typer.Option(
        help="all, or a list with commas: random, herding, kmeans-nearest, kmeans-farthest, forgetting, entropy-high, "
        "entropy-low, full [default: evaluation.baselines]"
    ),
]
Networks = Annotated[
    str | None,
    typer.Option(
        help="Kinds of network with commas, each with settings behind slashes: convnet,resnet/norm=batch,vgg,alexnet "
        "[default: the recipe's]"
    ),
]


@app.command()
def experts(
    recipe: RecipeName, overrides: Overrides = None, store: Store = None, dry_run: DryRun = False, json: Json = None
):
    """Train expert networks on the real data and write their trajectories to the store.

    Run again after it was stopped, it goes on, inside an expert too; with a larger experts.count it adds to the set.
    """
    from cluster.commands import experts as command

    command.main(recipe, overrides or [], store, dry_run, json)


@app.command()
def distill(
    recipe: RecipeName, overrides: Overrides = None, store: Store = None, dry_run: DryRun = False, json: Json = None
):
    """Distill a synthetic set; goes on where it was stopped when run again."""
    from cluster.commands import distill as command

    command.main(recipe, overrides or [], store, dry_run, json)


@app.command()
def evaluate(
    what: RunName,
    overrides: Overrides = None,
    store: Store = None,
    full: Full = False,
    scores: Annotated[
        bool, typer.Option(help="Also the scores of DD-Ranking (HLR, IOR, LRS, ARS), which take more trainings.")
    ] = False,
    baselines: Baselines = None,
    networks: Networks = None,
    json: Json = None,
):
    """Train fresh networks on a published set and judge them on the test images, baselines beside it."""
    from cluster.commands import evaluate as command

    command.main(what, overrides or [], store, full, scores, baselines, networks, json)


@app.command()
def baselines(
    recipe: RecipeName,
    overrides: Overrides = None,
    store: Store = None,
    ipc: Annotated[
        str | None, typer.Option(help="Budgets in images per class, with commas [default: the recipe's]")
    ] = None,
    full: Full = False,
    baselines: Baselines = None,
    networks: Networks = None,
    json: Json = None,
):
    """Train fresh networks on real images alone, chosen as the baselines are: needs no distilled set."""
    from cluster.commands import baselines as command

    command.main(recipe, overrides or [], store, ipc, full, baselines, networks, json)


@app.command()
def demo(overrides: Overrides = None, store: Store = None, json: Json = None):
    """Distill the digits, start to end: experts, distillation, evaluation, registry, picture."""
    from cluster.commands import demo as command

    command.main(overrides or [], store, json)
