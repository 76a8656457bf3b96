"""Commands that look: at datasets, at the order of classes, at distilled sets, at what ships."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.options import Json, Overrides, RunName, Store, app


@app.command()
def order(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="cifar10, cifar100, tiny-imagenet; or a recipe, for its dataset.")
    ],
    overrides: Overrides = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="greedy (PoCO), optimal, random or given (by --order) [default: a poster's own, else greedy]"
        ),
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option(
            help="clip-table, file:PATH, clip:NAME, open-clip:MODEL@FILE, mean-colour, mean-image or expert; "
            "auto: clip-table where one knows every class, else mean-image [default: a poster's own]"
        ),
    ] = None,
    distance: Annotated[
        str | None, typer.Option(help="cosine or euclidean [default: euclidean for mean-colour and mean-image]")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Of the class grid [default: near a square]")] = None,
    columns: Annotated[int | None, typer.Option(min=1, help="Of the class grid.")] = None,
    given: Annotated[
        str | None, typer.Option("--order", help="Classes row by row: a list, or the JSON file of an earlier order.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of random and optimal [default: the recipe's]")] = None,
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
    run: RunName,
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
    sheet: Annotated[
        Path, typer.Option(metavar="PNG", help="Some images of each class are drawn into this file.")
    ] = Path("contact-sheet.png"),
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
