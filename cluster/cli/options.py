"""Arguments that several commands take, and the application they are commands of."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Stillhouse distills image datasets: thousands of labelled images become a few synthetic ones.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def shipped_recipes() -> list[str]:
    """Names for tab completion; `stillhouse --install-completion` sets it up."""
    from distill.recipe import shipped

    return shipped()


RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A shipped recipe (`stillhouse recipes`), a TOML file, or a dataset's path or url.",
        autocompletion=shipped_recipes,
    ),
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


class LogFormat(StrEnum):
    """How a command says what happens."""

    TEXT = "text"
    JSON = "json"


Log = Annotated[
    LogFormat,
    typer.Option("--log", help="json: each event is a line of JSON on standard output, all else on standard error."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print what would run, where, its time, memory and storage; start nothing."),
]
Full = Annotated[bool, typer.Option("--full", help="With --dry-run, also print every setting of the recipe.")]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run, an exported folder, or a model such as digits@best.")
]
Within = Annotated[
    str | None, typer.Option(metavar="TIME", help="The time there is, e.g. 20m, 1h or 1h30m.", show_default=False)
]
Fid = Annotated[
    str | None,
    typer.Option(
        "--fid",
        help="Also FID and class FID, in the features of: experts (the store's), random, file:PATH (weights of the "
        "recipe's network), inception:PATH (needs torch-fidelity).",
    ),
]
