"""Commands on the sets of experts in a store."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.options import Json, Store, app

trajectories = typer.Typer(help="The sets of experts in a store.", no_args_is_help=True)
app.add_typer(trajectories, name="trajectories")

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
