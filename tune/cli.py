"""The console script `stillhouse`: the commands of cluster/cli, and `sweep`.

stillhouse sweep digits-rates --dry-run
"""

from typing import Annotated

import typer

from cluster.cli import DryRun, Json, Overrides, Store, app, main


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


__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
