"""`stillhouse order DATASET`: the order of classes on a poster, printed and drawn, with its score.

stillhouse order cifar100 --layout optimal --out order.png
stillhouse order digits --embedding expert --distance cosine
"""

import json as json_text
import textwrap
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.style import Style
from rich.table import Table
from rich.text import Text

from cluster.cli import common
from cluster.cli.options import Json, Overrides, Store, app
from distill.errors import RecipeError, StoreError

if TYPE_CHECKING:
    import numpy as np

    from distill.context import Context
    from distill.order import Grid
    from distill.recipe import Recipe

RANDOM_GRIDS = 100  # whose mean score the others are held against
NAME_WIDTH, NAME_LINES = 14, 2


@dataclass(frozen=True)
class OrderRequest:
    """The options of the command line; see `stillhouse order --help`."""

    dataset: str
    overrides: list[str]
    layout: str | None
    embedding: str | None
    distance: str | None
    rows: int | None
    columns: int | None
    given: str | None
    seed: int | None
    store: str | None
    listed: tuple[str | int, ...] = ()
    """The order, row by row, if the layout is `given`."""


@app.command("order")
def order_(
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
            "auto: clip-table if one knows every class, else mean-image [default: a poster's own]"
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
    from distill import order

    if out and not (out.suffix == ".png" and out.absolute().parent.is_dir()):
        raise StoreError(f"--out {out}: name a .png in a folder that exists")
    given_options = (dataset, overrides or [], layout, embedding, distance, rows, columns, given, seed, store)
    request, classes, source, context = _subject(_with_order(OrderRequest(*given_options)))
    distances = order.distances(classes, source, request.distance, context)
    rows, columns = _shape(len(classes), request.rows, request.columns)
    if request.layout == "given":
        grid = order.given(request.listed or range(len(classes)), classes, rows, columns)
    else:
        grid = order.layout(distances, rows, columns, request.layout, request.seed)
    figures = _figures(request, classes, distances, grid, source)
    _print(figures, classes, distances)
    if out:
        from distill.order.picture import draw

        draw(grid, classes, distances, _title(figures)).save(out)
    common.write_json(json, figures)


# ---------------------------------------------------------------- what is ordered


def _subject(request: OrderRequest) -> tuple[OrderRequest, tuple[str, ...], str, "Context | None"]:
    """The request with the recipe's defaults, class names, embedding, and a context if it looks at images."""
    from distill.order.embeddings import FROM_IMAGES, clip_table, resolve

    if request.dataset in clip_table.tables():
        if request.overrides:
            raise RecipeError(f"{request.dataset} is a shipped table, which has no settings: name a recipe to override")
        classes, _ = clip_table.table(request.dataset)
        request = _with_defaults(request, "greedy", "auto", 0)
        return request, classes, resolve(request.embedding, classes), None
    from distill import context as contexts
    from distill import data

    recipe = common.read(request.dataset, request.overrides)
    request = _with_recipe(request, recipe)
    if request.embedding in FROM_IMAGES:
        context = contexts.prepare(recipe)
        if request.embedding == "expert":
            context = _with_experts(context, request.store)
        return request, context.data.classes, request.embedding, context
    classes = data.read(recipe.dataset).classes
    source = resolve(request.embedding, classes)
    return request, classes, source, contexts.prepare(recipe) if source in FROM_IMAGES else None


def _with_recipe(request: OrderRequest, recipe: "Recipe") -> OrderRequest:
    """A poster's recipe says what the command line leaves open: the order that a run would have."""
    poster = recipe.synthetic
    if poster.kind != "poster":
        return _with_defaults(request, "greedy", "auto", recipe.seed)
    if poster.grid and not (request.rows or request.columns):
        request = replace(request, rows=poster.grid[0], columns=poster.grid[1])
    if poster.order_list and not request.layout:
        request = replace(request, listed=poster.order_list)
    return _with_defaults(request, "given" if poster.order_list else poster.order, poster.embedding, recipe.seed)


def _with_defaults(request: OrderRequest, layout: str, embedding: str, seed: int) -> OrderRequest:
    return replace(
        request,
        layout=request.layout or layout,
        embedding=request.embedding or embedding,
        seed=seed if request.seed is None else request.seed,
    )


def _with_experts(context: "Context", store: str | None) -> "Context":
    """The context with the experts that the store holds for its recipe. ExpertsMissing if there are none."""
    from cluster.jobs.experts import open_set

    url, _, _ = common.places(store)
    return context.with_experts(open_set(context, url))


def _shape(classes: int, rows: int | None, columns: int | None) -> tuple[int, int]:
    """Rows and columns: what the options say, the other following from it."""
    from distill import order

    if rows is None and columns is None:
        return order.shape_of(classes)
    return rows or classes // columns, columns or classes // rows


def _with_order(request: OrderRequest) -> OrderRequest:
    """With the order of --order, if there is one. RecipeError if the layout is unknown or does not fit it."""
    from distill import order

    layout = request.layout or ("given" if request.given else None)
    if layout not in (*order.LAYOUTS, "given", None):
        raise RecipeError(f"--layout {layout}: use one of {', '.join(order.LAYOUTS)} or given")
    if (layout == "given") != bool(request.given):
        raise RecipeError(
            f"--layout {layout} {'with' if request.given else 'without'} --order: give --order '[\"cat\", ...]', or "
            "the JSON file of an earlier order, with --layout given alone"
        )
    return replace(request, layout=layout, listed=_read_order(request.given) if request.given else ())


def _read_order(text: str) -> tuple[str | int, ...]:
    """The order in a list, flat or by rows, as TOML or JSON write it; or in a file, also what --json wrote."""
    if Path(text).suffix == ".json":
        if not Path(text).is_file():
            raise RecipeError(f"--order {text}: no such file")
        text = Path(text).read_text(encoding="utf8")
    try:
        value = json_text.loads(text) if text.lstrip().startswith("{") else tomllib.loads(f"v = {text}")["v"]
    except ValueError:
        raise RecipeError(f"--order: not a list of class names or numbers: {text[:60]}") from None
    entries = value.get("order") if isinstance(value, dict) else value
    if isinstance(entries, list) and all(isinstance(entry, list) for entry in entries):
        entries = [c for row in entries for c in row]
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, str | int) for entry in entries):
        raise RecipeError("--order: write it as a list of class names or numbers, row by row")
    return tuple(entries)


# ---------------------------------------------------------------- what is shown


def _figures(
    request: OrderRequest, classes: tuple[str, ...], distances: "np.ndarray", grid: "Grid", source: str
) -> dict:
    """The grid, its score, and the scores of the layouts it can be held against."""
    import numpy as np

    from distill import order
    from distill.order.embeddings import default_kind

    rows, columns = len(grid), len(grid[0])

    def score_of(method: str, seed: int = request.seed) -> float:
        return order.score(distances, order.layout(distances, rows, columns, method, seed))

    score = order.score(distances, grid)
    return {
        "dataset": request.dataset,
        "layout": request.layout,
        "embedding": source,
        "distance": request.distance or default_kind(source),
        "rows": rows,
        "columns": columns,
        "grid": grid,
        "order": [classes[k] for row in grid for k in row],
        "score": score,
        "scores": {
            "greedy": score_of("greedy"),
            "optimal": score if request.layout == "optimal" else score_of("optimal"),
            "random": float(np.mean([score_of("random", seed) for seed in range(RANDOM_GRIDS)])),
        },
    }


def _title(figures: dict) -> str:
    scores = figures["scores"]
    return (
        f"{figures['dataset']}, {figures['layout']} by {figures['embedding']} ({figures['distance']}): score "
        f"{figures['score']:.4g}   (greedy {scores['greedy']:.4g}, optimal {scores['optimal']:.4g}, "
        f"random {scores['random']:.4g})"
    )


def _print(figures: dict, classes: tuple[str, ...], distances: "np.ndarray") -> None:
    from distill import order
    from distill.order.colours import colours, ink

    palette = colours(distances)
    columns = figures["columns"]
    width = min(NAME_WIDTH, max(4, common.console.width // columns - 1))
    table = Table.grid(padding=0)
    for row in figures["grid"]:
        table.add_row(*(_cell(classes[k], width, palette[k], ink(palette[k])) for k in row))
    common.console.print(_title(figures), soft_wrap=True, markup=False)
    common.console.print(table)
    listed = json_text.dumps(figures["order"], ensure_ascii=False)
    if (figures["rows"], columns) != order.shape_of(len(classes)):
        common.console.print(f"\nsynthetic.rows = {figures['rows']}\nsynthetic.columns = {columns}", end="")
    common.console.print(f"\nsynthetic.order = {listed}", soft_wrap=True, markup=False)


def _cell(name: str, width: int, colour: "np.ndarray", letters: tuple[int, int, int]) -> Text:
    """A name in two lines on its colour."""
    short = name.partition(",")[0].replace("_", " ")
    lines = textwrap.wrap(short, width, max_lines=NAME_LINES, placeholder="…")
    lines += [""] * (NAME_LINES - len(lines))
    style = Style(color="rgb({},{},{})".format(*letters), bgcolor="rgb({},{},{})".format(*colour.tolist()))
    return Text("\n".join(f" {line:<{width}}" for line in lines), style, no_wrap=True)
