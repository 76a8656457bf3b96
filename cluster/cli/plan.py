"""`stillhouse plan DATA --within 1h`: a recipe for somebody's images and the time they have. Starts nothing."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli import common, planning
from cluster.cli.options import app


@app.command()
def plan(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A dataset's file or folder, its s3:// url, or a recipe that has one.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Dotted overrides, of the dataset before planning, e.g. dataset.size=64"
        ),
    ] = None,
    within: Annotated[str, typer.Option(metavar="TIME", help="The time there is, e.g. 20m, 1h or 1h30m.")] = "1h",
    ipc: Annotated[int, typer.Option(min=1, help="Synthetic images per class.")] = 1,
    out: Annotated[Path, typer.Option(metavar="TOML", help="Where the recipe is written.")] = Path("plan.toml"),
):
    """Choose settings for a dataset that are done in time, say why, and write them as a recipe; starts nothing."""
    planning.planned(data, overrides or [], planning.seconds(within), ipc, out)
    common.console.print(f"run it    stillhouse distill {out} --within {within}", soft_wrap=True)
