"""`stillhouse gallery [RUN|MODEL ...] --out DIR`: distilled sets as a static site to look at, without a server.

stillhouse gallery digits@best fabric-0123 --out site && xdg-open site/index.html
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cluster.cli import common
from cluster.cli.options import Store, app


@app.command()
def gallery(
    results: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN|MODEL|FOLDER]...", help="What to show [default: every run that has ended]."),
    ] = None,
    store: Store = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The site; one of an earlier time is replaced.")] = Path(
        "gallery"
    ),
    title: Annotated[str, typer.Option(help="Heading of the index.")] = "Distilled datasets",
    real: Annotated[int, typer.Option(min=0, max=20, help="Real images beside each class.")] = 4,
    steps: Annotated[int, typer.Option(min=2, max=200, help="Frames of a distillation, at most.")] = 40,
    downloads: Annotated[bool, typer.Option(help="Also the sets as safetensors, Parquet and PNG.")] = True,
    track: Annotated[
        bool, typer.Option("--track", help="Also put each run's page into its MLflow artifacts, as gallery/index.html.")
    ] = False,
):
    """Write a static site of distilled sets: pictures, how they formed, accuracy, recipes, downloads."""
    from cluster.gallery import build
    from cluster.gallery.site import Options
    from cluster.gallery.tracked import track_pages

    url, tracking, _ = common.places(store)
    common.log_to_console()
    options = Options(title, real, steps, downloads)
    with common.console.status("building the site"):
        shown = build(results or [], out, url, tracking, options)
    for result in shown:
        common.console.print(
            f"{escape(result.name)}  {escape(result.dataset)}  {escape(result.method)}", soft_wrap=True
        )
        for note in result.notes:
            common.console.print(f"  [yellow]{escape(note)}[/]", soft_wrap=True)
    if track:
        track_pages(shown, tracking, options)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    common.console.print(f"site      {escape(str(out.absolute()))}/index.html ({size / 1e6:.1f} MB)", soft_wrap=True)
