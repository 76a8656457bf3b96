"""`stillhouse texture RUN --out DIR`: the canvases of a distilled set as files that tile, at any print size.

stillhouse texture fabric@best --out swatches --width-mm 300 --dpi 300 --format png16,jpeg --sheet
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cluster.cli import common
from cluster.cli.options import Json, RunName, Store, app
from distill.errors import DataError, RecipeError

MOST_FRAMES, FRAME_SIDE = 120, 1024


@app.command()
def texture(
    what: RunName,
    store: Store = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The files are written here.")] = Path("textures"),
    tiles: Annotated[
        int | None, typer.Option(min=1, help="Copies along each axis that wraps: 3, or 1 at a given size.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=4, help="Width of a file in pixels, all its copies together.")] = None,
    width_mm: Annotated[float | None, typer.Option(help="Width in millimetres, at --dpi.")] = None,
    dpi: Annotated[
        float | None, typer.Option(min=1, max=10000, help="Written into the files; 300 with --width-mm.")
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="With commas: png, png16, webp (lossless), webp-lossy, jpeg.")
    ] = "png",
    classes: Annotated[list[str] | None, typer.Option("--class", help="Only this class; may be repeated.")] = None,
    sheet: Annotated[bool, typer.Option("--sheet", help="Also sheet.png: 3x3 copies of each, with names.")] = False,
    animate: Annotated[
        bool, typer.Option("--animate", help="Also forming.webp, an animation: how the run's textures formed.")
    ] = False,
    layout: Annotated[
        int | None,
        typer.Option(min=16, help="Also NAME-layout.png: this many pixels square without a period, of Wang tiles."),
    ] = None,
    json: Json = None,
):
    """Write the canvases of a distilled set as pictures that tile without a seam."""
    from cluster.jobs import evaluating
    from distill.picture import png, to_images
    from distill.textures import ANIMATION, SHEET, export, textures, write
    from distill.textures import sheet as drawn

    width, dpi = width_of(size, width_mm, dpi)
    kinds = kinds_of(formats)
    url, tracking, _ = common.places(store)
    common.log_to_console()
    found = textures(evaluating.find(what, url, tracking), classes or ())
    if animate:
        write(out / f"{ANIMATION}.webp", forming(what, url, tracking))
    written = []
    for one in found:
        files = export(one, out, kinds, tiles or (1 if width else 3), width, dpi)
        for file in files:
            show(file)
        written += files
        if layout:
            write(out / f"{one.slug}-layout.png", png(to_images(one.laid_out(layout, layout)[None])[0]))
    if sheet:
        write(out / f"{SHEET}.png", png(drawn(found)))
    common.console.print(f"{len(written)} files in {escape(str(out.absolute()))}", soft_wrap=True)
    common.write_json(json, written)


def width_of(size: int | None, width_mm: float | None, dpi: float | None) -> tuple[int | None, float | None]:
    """(width in pixels, dpi) from the options; None for an option that was not given."""
    from distill.textures import pixels

    if size is not None and width_mm is not None:
        raise RecipeError("--size and --width-mm both say how wide a file is: give one of them")
    if not all(0 < value < float("inf") for value in (width_mm, dpi) if value is not None):
        raise RecipeError("--width-mm and --dpi: give numbers above 0")
    if width_mm is None:
        return size, dpi
    dpi = dpi or 300.0
    return pixels(width_mm, dpi), dpi


def kinds_of(formats: str) -> list[str]:
    """The formats that `--format` lists."""
    from distill.image_files import FORMATS

    kinds = [kind.strip() for kind in formats.split(",") if kind.strip()]
    if unknown := [kind for kind in kinds if kind not in FORMATS]:
        raise RecipeError(f"--format: no {unknown[0]!r}; there are {', '.join(FORMATS)}")
    if not kinds:
        raise RecipeError(f"--format: name at least one of {', '.join(FORMATS)}")
    return kinds


def forming(what: str, url: str, tracking: str) -> bytes:
    """An animated WebP of the pictures that the run kept of its set over the steps."""
    from cluster.jobs import evaluating
    from cluster.tracking.pictures import frames
    from distill.image_files import animate

    run = evaluating.run_of(what, url, tracking)
    if run is None:
        raise DataError(
            f"--animate: {what} is not a run of {url}, nor a model of one: pictures of steps are kept by runs"
        )
    pictures = frames(tracking, "distill", run.run_id, "synthetic", MOST_FRAMES, FRAME_SIDE)
    return animate([image for _, image in pictures])


def show(file: dict) -> None:
    """One line per file."""
    measured, size = file["seam"], f"{file['width']}x{file['height']}"
    seam = " ".join(f"{name.removeprefix('seam_')} {ratio:.2f}" for name, ratio in measured.items()) if measured else ""
    verdict = "seamless" if file["seamless"] else "[yellow]seam outside 0.8 to 1.2[/]"
    common.console.print(f"{escape(file['file'])}  {size}  {verdict}  {seam}", soft_wrap=True)
