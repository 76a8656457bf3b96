"""`stillhouse recipes`: what ships with the package, and with --fields every path a recipe may set."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from distill import recipe


def main(fields: bool) -> None:
    console = Console(highlight=False)
    console.print(_fields() if fields else _shipped())


def _shipped() -> Table:
    table = Table("recipe", "paper", "expected", title="Shipped recipes", title_justify="left")
    for name in recipe.shipped():
        loaded = recipe.load(name)
        table.add_row(name, loaded.paper, loaded.expected)
    return table


def _fields() -> Table:
    table = Table("path", "default", "what it is", title="Fields of a recipe", title_justify="left")
    for row in _rows(recipe.Recipe, ""):
        table.add_row(*row)
    return table


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
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


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings classes inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
