"""`stillhouse demo`: the whole job on scikit-learn's digits, then where to look."""

import time
from pathlib import Path

from cluster.cli import common, evaluation_table
from cluster.cli.distill import run as run_distill
from cluster.cli.evaluate import figures_of
from cluster.cli.options import Json, Overrides, Store, app

RECIPE = "digits"


@app.command()
def demo(overrides: Overrides = None, store: Store = None, json: Json = None):
    """Distill the digits, start to end: experts, distillation, evaluation, registry, picture."""
    from distill import published as sets
    from distill.text import public

    started = time.monotonic()
    recipe = common.read(RECIPE, overrides)
    url, tracking, home = common.places(store)
    common.log_to_console()
    with common.session() as ray:
        context = common.prepared(recipe, url)
        result = run_distill(context, url, tracking, ray)

        from cluster.jobs import evaluating
        from cluster.jobs.request import request_for

        published = evaluating.find(result["run_id"], url, tracking)
        run = evaluating.run_of(result["run_id"], url, tracking)
        request = request_for(recipe, (recipe.network,), published, url, dataset=context.data)
        (figures,) = figures_of(request, published, url, run, tracking, ray.share(context.data))
    seconds = time.monotonic() - started
    folder = Path(home) / "demo"
    sets.write(published, folder)
    evaluation_table.show(f"Digits, {figures['network']}, in {seconds:.0f} s", [figures])
    common.console.print(
        f"pictures  {folder / 'images.png'}\n"
        f"set       {folder / sets.FILE} (and Parquet beside it)\n"
        f"model     models:/{result['model']}/{result['version']}\n"
        f"database  {public(tracking)}\n"
        "          open it with `stillhouse ui`, then http://127.0.0.1:5000",
        soft_wrap=True,
    )
    distilled = {key: figures[key] for key in ("mean", "std", "n")}
    common.write_json(
        json, {"random": figures["random"], "distilled": distilled, "full": figures["full"], "seconds": seconds}
    )
