"""`stillhouse recipes`: what ships with the package, and with --fields every path a recipe may set."""

from collections.abc import Iterator
from typing import Annotated, Any, get_args

import typer
from rich.table import Table

from cluster.cli import common
from cluster.cli.options import app


@app.command()
def recipes(
    fields: Annotated[bool, typer.Option(help="List every dotted path a recipe may set, with its default.")] = False,
):
    """List the shipped recipes, with their paper and the figure to expect."""
    common.console.print(_fields() if fields else _shipped())


def _shipped() -> Table:
    from distill import recipe

    table = Table("recipe", "paper", "expected", title="Shipped recipes", title_justify="left")
    for name in recipe.shipped():
        loaded = recipe.load(name)
        table.add_row(name, loaded.paper, loaded.expected)
    return table


def _fields() -> Table:
    from distill.recipe import Recipe

    table = Table("path", "default", "what it is", title="Fields of a recipe", title_justify="left")
    for row in _rows(Recipe, ""):
        table.add_row(*row)
    return table


def _rows(model: type, prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        inner = [m for m in _models(field.annotation)]
        for m in inner:
            kind = m.model_fields.get("kind")
            yield (
                f"{prefix}{name}",
                f"kind = {kind.default}" if kind else "",
                (m.__doc__ or "").strip().partition("\n")[0],
            )
            yield from _rows(m, f"{prefix}{name}.")
        if not inner and name != "kind":
            default = "required" if field.is_required() else str(field.default)
            yield f"{prefix}{name}", default, field.description or ""


def _models(annotation: Any) -> Iterator[type]:
    """The settings classes inside an annotation."""
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
