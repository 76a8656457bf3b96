"""The command line: one file per command, which declares its arguments and does its work.

Modules here import only what --help needs; each command imports its own work when it runs.

stillhouse demo
stillhouse distill cifar10-1ipc-small dataset.path=data/cifar10 --dry-run
"""

import gc
import re
import sys

from rich.console import Console

# isort: off
# In the order in which --help lists the commands.
from cluster.cli import plan, experts, distill, evaluate, demo, trajectories, order, recipes, range  # noqa: F401
from cluster.cli import embed, drive, texture, sample, seam, data, compare, gallery, models, export  # noqa: F401
from cluster.cli import status, doctor, ui, stack  # noqa: F401

# isort: on
from cluster.cli.options import DryRun, Json, Overrides, Store, app
from cluster.stopping import Stopped, end, listening, say_how_to_continue
from distill.errors import StillhouseError

__all__ = ["DryRun", "Json", "Overrides", "Store", "app", "main"]


def main() -> None:
    """Run the command line; an error that the user can fix is one message and exit code 2.

    Ctrl-C and SIGTERM end it in seconds with the codes 130 and 143 and a line that says how to continue.
    """
    gc.set_threshold(50_000, 20, 50)  # what imports make stays: looking through it is a tenth of the start
    for stream in (sys.stdout, sys.stderr):  # names of files may be no text at all, or not of the terminal's letters
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with listening():
            app(_overrides_as_arguments(sys.argv[1:]))
    except StillhouseError as error:
        from rich.markup import escape

        from distill.text import public

        said = escape(public(str(error)))
        Console(stderr=True).print(f"[bold red]error:[/] {said}", soft_wrap=True, highlight=False)
        sys.exit(2)
    except Stopped as stop:
        say_how_to_continue(stop)
        end(stop.code)


def _overrides_as_arguments(arguments: list[str]) -> list[str]:
    """`--outer.steps=5` and `--outer.steps 5` are taken as `outer.steps=5`: only overrides have a dot in their name."""
    taken, rest = [], iter(arguments)
    for argument in rest:
        if re.match(r"--[a-z_]+\.[a-z_.-]+", argument):
            taken.append(argument[2:] if "=" in argument else f"{argument[2:]}={next(rest, '')}")
        else:
            taken.append(argument)
    return taken
