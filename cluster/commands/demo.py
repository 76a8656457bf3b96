"""`stillhouse demo`: the whole job on scikit-learn's digits, then where to look."""

import time
from pathlib import Path

from cluster.commands import common, distill, evaluate, evaluation_table

RECIPE = "digits"


def main(overrides: list[str], store: str | None, json: Path | None) -> None:
    from cluster.jobs import evaluating
    from cluster.jobs.asked import ask
    from cluster.jobs.session import session
    from distill import published as sets

    started = time.monotonic()
    recipe = common.read(RECIPE, overrides)
    url, tracking, home = common.places(store)
    common.log_to_console()
    context = common.prepared(recipe, url)
    with session():
        result = distill.run(context, url, tracking)
        published = evaluating.find(result["run_id"], url, tracking)
        run = evaluating.run_of(result["run_id"], url, tracking)
        asked = ask(recipe, (recipe.network,), published, url)
        (figures,) = evaluate.figures_of(asked, published, url, run, tracking)
    seconds = time.monotonic() - started
    folder = Path(home) / "demo"
    sets.write(published, folder)
    evaluation_table.show(f"Digits, {figures['network']}, in {seconds:.0f} s", [figures])
    common.console.print(
        f"pictures  {folder / 'images.png'}\n"
        f"set       {folder / sets.FILE} (and Parquet beside it)\n"
        f"model     models:/{result['model']}/{result['version']}\n"
        f"database  {tracking}\n"
        "          open it with `stillhouse ui`, then http://127.0.0.1:5000",
        soft_wrap=True,
    )
    distilled = {key: figures[key] for key in ("mean", "std", "n")}
    common.write_json(
        json, {"random": figures["random"], "distilled": distilled, "full": figures["full"], "seconds": seconds}
    )
