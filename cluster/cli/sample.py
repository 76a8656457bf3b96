"""`stillhouse sample MODEL --out DIR`: images drawn from a distilled generator, by class, seed and truncation, and FID.

stillhouse sample digits-gendm@best --class 3 --class 7 --seed 1 --truncation 0.7 --n 16 --out samples --interpolate 2
stillhouse sample digits-gendm@best --truncation 0.7 --fid experts
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cluster.cli import common
from cluster.cli.options import Fid, Json, RunName, Store, app
from distill.errors import RecipeError

Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Other seeds give other images.")]


@app.command()
def sample(
    what: RunName,
    store: Store = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Only this class, by name or number; may be repeated.")
    ] = None,
    seed: Seed = 0,
    truncation: Annotated[
        float, typer.Option(min=0, max=1, help="Below 1, images are closer to the mean of their class.")
    ] = 1.0,
    n: Annotated[int, typer.Option("--n", min=1, help="Images per class.")] = 8,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The files are written here.")] = Path("samples"),
    interpolate: Annotated[
        int | None,
        typer.Option(min=0, max=2**63 - 1, help="Also between.webp, an animation from --seed to this seed and back."),
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames of the animation, one way.")] = 24,
    fid: Fid = None,
    json: Json = None,
):
    """Draw images from a distilled generator: a sheet and a Parquet table."""
    from cluster.jobs import evaluating
    from cluster.jobs import fid as fids
    from distill import samples

    url, tracking, _ = common.places(store)
    common.log_to_console()
    fid = fid and fids.check(fid)
    published, names = evaluating.find(what, url, tracking), classes or ()
    if fid and not published.recipe:
        raise RecipeError("--fid: nothing says which images are real: this generator has no recipe")
    drawn = samples.draw(published, names, n, seed, truncation)
    animation = None
    if interpolate is not None:
        animation = samples.interpolation(published, names, (seed, interpolate), frames, truncation)
    files = samples.write(drawn, out)
    if animation:
        files.append(out / "between.webp")
        files[-1].write_bytes(animation)
    common.console.print(f"{len(drawn.labels)} images in {escape(str(out.absolute()))}", soft_wrap=True)
    figures = {"images": len(drawn.labels), "seed": seed, "truncation": truncation, "files": [f.name for f in files]}
    if fid:
        figures["fid"] = _fid(published, evaluating.run_of(what, url, tracking), fid, truncation, url, tracking)
    common.write_json(json, figures)


def _fid(published, run, choice: str, truncation: float, url: str, tracking: str) -> dict:
    """Print FID at this truncation against the training images of the set's recipe, and keep it with its run; without
    truncation it is also a figure of the registered version."""
    import torch

    from cluster.jobs import fid as fids
    from cluster.jobs.progress import Reading
    from distill import data
    from distill.recipe import override

    recipe = common.absolute(
        override(published.recipe, [f"evaluation.sampling.truncation={truncation}"], published.recipe["name"])
    )
    with Reading(common.console) as reading:
        dataset = data.load(recipe.dataset, recipe.seed, torch.device("cpu"), reading)
    measured = fids.measure(published, recipe, choice, url, dataset)
    common.console.print(str(measured), soft_wrap=True)
    if run:
        fids.keep(run, measured, truncation)
        if truncation == 1:
            common.tracked(lambda: fids.track(run, published, measured, tracking))
    return measured.as_dict()
