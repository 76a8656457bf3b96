"""`stillhouse seam IMAGE`: how visible the seam of anybody's tileable picture is."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cluster.cli import common
from cluster.cli.options import Json, app
from distill.errors import DataError

SAYS = {
    "seamless": "seamless",
    "line": "[red]a line[/] (a ratio above 1.2: the edges do not fit)",
    "stripe": "[red]a stripe[/] (a ratio below 0.8: smoother than the rest)",
}


@app.command()
def seam(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="PNG, JPEG, WebP or BMP, shown on white.")],
    json: Json = None,
):
    """Measure the seam of a tileable picture: changes across its edges over those inside, 0.8 to 1.2 is seamless."""
    from distill import seam as seams
    from distill.data.decode import decode_picture

    try:
        x = decode_picture(image.read_bytes())
        measured = seams.seam(x)
    except OSError as error:
        raise DataError(f"{image}: {error.strerror or error}; name a picture that can be read") from None
    except DataError as error:
        raise DataError(f"{image}: {error}") from None
    height, width = x.shape[1:]
    common.console.print(f"{escape(str(image))}, {width}x{height}", soft_wrap=True)
    for axis, edges in (("x", "right to left"), ("y", "bottom to top")):
        values, gradient = getattr(measured, f"seam_{axis}"), getattr(measured, f"seam_gradient_{axis}")
        ratios = f"values {values:.2f}, gradients {gradient:.2f}"
        common.console.print(f"{axis}  {edges}  {ratios}  {SAYS[getattr(measured, axis)]}", soft_wrap=True)
    verdict = {"seamless": measured.seamless, "x": measured.x, "y": measured.y, "width": width, "height": height}
    common.write_json(json, {**measured.as_dict(), **verdict})
