"""The console script `stillhouse`. Only what --help needs is imported here; each command imports its own work.

stillhouse demo
stillhouse distill cifar10-1ipc-small dataset.path=data/cifar10 --dry-run
"""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from distill.errors import StillhouseError

app = typer.Typer(
    help="Stillhouse distills image datasets: thousands of labelled images become a few synthetic ones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

trajectories = typer.Typer(help="The sets of experts in a store.", no_args_is_help=True)
app.add_typer(trajectories, name="trajectories")

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A shipped recipe (`stillhouse recipes`) or a TOML file.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Dotted overrides of the recipe, e.g. objective.syn_steps=20."),
]
Store = Annotated[
    str | None,
    typer.Option(help="file:PATH or s3://bucket/prefix [default: $STILLHOUSE_STORE, else ~/stillhouse/store]"),
]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file as JSON.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the resolved recipe, the store and an estimate; start nothing.")
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


SetName = Annotated[str, typer.Argument(metavar="NAME", help="A set, as `stillhouse trajectories list` names it.")]


@trajectories.command(name="list")
def trajectories_list(store: Store = None, json: Json = None):
    """List the sets of experts: of which data and network, how many experts and epochs, size, test accuracy."""
    from cluster.commands import trajectories as command

    command.list_sets(store, json)


@trajectories.command(name="show")
def trajectories_show(
    name: SetName,
    store: Store = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Also draw accuracy per epoch.")] = None,
    json: Json = None,
):
    """Show a set: data, network, sizes, and accuracy per epoch on training and test images."""
    from cluster.commands import trajectories as command

    command.show(name, store, plot, json)


@trajectories.command(name="verify")
def trajectories_verify(name: SetName, store: Store = None, json: Json = None):
    """Read every expert of a set and compare it with its SHA-256; exit code 2 and its name when one is damaged."""
    from cluster.commands import trajectories as command

    command.verify(name, store, json)


@trajectories.command(name="delete")
def trajectories_delete(
    name: SetName,
    store: Store = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
):
    """Delete a set of experts, after asking."""
    from cluster.commands import trajectories as command

    command.delete(name, store, dry_run, yes)


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
def evaluate(
    what: Annotated[
        str, typer.Argument(metavar="RUN-OR-PATH", help="A run, an exported folder, or a model such as digits@best.")
    ],
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


@app.command()
def order(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="cifar10, cifar100, tiny-imagenet; or a recipe, for its dataset.")
    ],
    overrides: Overrides = None,
    layout: Annotated[
        str | None, typer.Option(help="greedy (PoCO), optimal, random or given (by --order) [default: greedy]")
    ] = None,
    embedding: Annotated[
        str,
        typer.Option(
            help="clip-table, file:PATH, clip:NAME, open-clip:MODEL@FILE, mean-colour, mean-image or expert; "
            "auto: clip-table where one knows every class, else mean-image."
        ),
    ] = "auto",
    distance: Annotated[
        str | None, typer.Option(help="cosine or euclidean [default: euclidean for mean-colour and mean-image]")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Of the class grid [default: near a square]")] = None,
    columns: Annotated[int | None, typer.Option(min=1, help="Of the class grid.")] = None,
    given: Annotated[
        str | None, typer.Option("--order", help="Classes row by row: a list, or the JSON file of an earlier order.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of random and optimal.")] = 0,
    store: Store = None,
    out: Annotated[Path | None, typer.Option(metavar="PNG", help="Also draw the grid into this file.")] = None,
    json: Json = None,
):
    """Order the classes of a poster by how alike they are (PoCO), and show the grid with its score."""
    from cluster.commands import order as command

    asked = command.Asked(dataset, overrides or [], layout, embedding, distance, rows, columns, given, seed, store)
    command.main(asked, out, json)


@app.command()
def recipes(
    fields: Annotated[bool, typer.Option(help="List every dotted path a recipe may set, with its default.")] = False,
):
    """List the shipped recipes, with their paper and the figure to expect."""
    from cluster.commands import recipes as command

    command.main(fields)


@app.command(name="range")
def range_(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Runs, exported folders, or models such as digits@best.")
    ],
    store: Store = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each student on the distilled set.")] = 1000,
    start: Annotated[int, typer.Option(min=0, help="Expert epoch the students start from.")] = 0,
    experts: Annotated[int, typer.Option(min=1, help="Experts the distances are averaged over.")] = 3,
    plot: Annotated[Path, typer.Option(metavar="PNG", help="Where the plot goes.")] = Path("range.png"),
    json: Json = None,
):
    """Show how close training on distilled sets comes to experts at growing distance (MTT, figure 5, right)."""
    from cluster.commands import range as command

    command.main(runs, store, steps, start, experts, plot, json)


@app.command()
def embed(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run, an exported folder, or a model such as digits@best.")
    ],
    overrides: Overrides = None,
    store: Store = None,
    images: Annotated[int, typer.Option(min=1, help="Real test images on the map, at most.")] = 2000,
    classes: Annotated[int, typer.Option(min=1, max=10, help="Show the first so many classes.")] = 10,
    out: Annotated[Path | None, typer.Option(metavar="PNG", help="Picture [default: RECIPE-embed.png]")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Also write every image's place to this file.")] = None,
):
    """Draw real test images and a distilled set on one map (t-SNE of a trained network's features)."""
    from cluster.commands import embed as command

    command.main(run, overrides or [], store, images, classes, out, json)


data = typer.Typer(help="Look at datasets before they are used.", no_args_is_help=True)
app.add_typer(data, name="data")


@data.command("check")
def data_check(
    what: Annotated[
        str, typer.Argument(metavar="PATH-OR-RECIPE", help="A dataset's file or folder, its s3:// url, or a recipe.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings of the dataset, e.g. size=64 or kind=folder."),
    ] = None,
    sheet: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw some images of each class.")] = None,
    json: Json = None,
):
    """List all that is wrong with a dataset at once, its figures and a contact sheet; exit code 2 on faults."""
    from cluster.commands import data as command

    command.main(what, overrides or [], sheet, json)


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs of one dataset, in the store.")],
    store: Store = None,
    out: Annotated[Path, typer.Option(metavar="NAME", help="Writes NAME.png and NAME.md.")] = Path("compare"),
    json: Json = None,
):
    """Set runs side by side: accuracy against budget with baselines and the papers' figures, table and plot."""
    from cluster.commands import compare as command

    command.main(runs, store, out, json)


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port of the page on 127.0.0.1.")] = 5000):
    """Serve MLflow's page over the runs, pictures and models on this machine."""
    from cluster.commands import ui as command

    command.main(port)


def main() -> None:
    """Run the command line; an error the user can mend is one message and exit code 2."""
    try:
        app(_overrides_as_arguments(sys.argv[1:]))
    except StillhouseError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {_escaped(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(2)


def _overrides_as_arguments(arguments: list[str]) -> list[str]:
    """`--outer.steps=5` and `--outer.steps 5` are taken as `outer.steps=5`: only overrides have a dot in their name."""
    taken, rest = [], iter(arguments)
    for argument in rest:
        if re.match(r"--[a-z_]+\.[a-z_.-]+", argument):
            taken.append(argument[2:] if "=" in argument else f"{argument[2:]}={next(rest, '')}")
        else:
            taken.append(argument)
    return taken


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
