"""The console script `stillhouse`: the commands of cluster/cli, `sweep` and `matrix`.

stillhouse sweep digits-rates --dry-run
"""

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli import DryRun, Json, Overrides, Store, app, main
from cluster.cli.options import RecipeName


@app.command()
def sweep(
    what: Annotated[str, typer.Argument(metavar="SWEEP", help="A shipped sweep (`--list`) or a TOML file.")] = "",
    overrides: Overrides = None,
    store: Store = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume a sweep that was interrupted.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the shipped sweeps.")] = False,
    dry_run: DryRun = False,
    json: Json = None,
):
    """Try one recipe with many settings, publish the best and write a report of all trials."""
    from tune import command

    command.main(what, overrides or [], store, resume, listed, dry_run, json)


@app.command()
def matrix(
    recipe: RecipeName,
    overrides: Overrides = None,
    sets: Annotated[str | None, typer.Option(help="Kinds of set, e.g. pixels,canvas [default: all]")] = None,
    objectives: Annotated[
        str | None, typer.Option(help="Kinds of objective, e.g. trajectory,unrolled [default: all]")
    ] = None,
    budget: Annotated[float, typer.Option(help="Stored floats of every set, as images per class.")] = 1.0,
    baselines: Annotated[
        str, typer.Option(help="Real images beside the sets, as for `stillhouse evaluate`.")
    ] = "random,herding,full",
    store: Store = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For matrix.png, .csv and .json [default: in ~/stillhouse]")
    ] = None,
    dry_run: DryRun = False,
    json: Json = None,
):
    """Run a recipe with every set and objective at equal stored floats, and draw a heat map; run again, it continues.

    KIND:path=value overrides the recipe only with that set or objective, e.g. unrolled:objective.window=20.
    """
    from tune.matrix import command

    command.main(recipe, overrides or [], sets, objectives, budget, baselines, store, out, dry_run, json)


__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
