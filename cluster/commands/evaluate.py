"""`stillhouse evaluate RUN-OR-PATH`: fresh networks on a published set, with baselines."""

import time
from pathlib import Path

from cluster.commands import common


def main(what: str, overrides: list[str], store: str | None, full: bool, json: Path | None) -> None:
    from cluster import evaluating
    from distill.recipe import override

    url, tracking, _ = common.places(store)
    common.log_to_console()
    published = evaluating.find(what, url, tracking)
    recipe = common.absolute(override(published.recipe, overrides, what))
    started = time.monotonic()
    figures = run(published, recipe, url, full)
    keep(what, recipe, figures, url)
    figures["seconds"] = time.monotonic() - started
    e = recipe.evaluation
    title = f"{what}: protocol {e.protocol}, {e.epochs} epochs, {figures['network']}"
    if e.selection == "best-on-test":
        title += "\nthe step was chosen on the TEST images (best-on-test): the distilled figure is flattered"
    common.console.print(common.accuracy_table(title, common.rows_of(figures)))
    common.write_json(json, figures)


def keep(what: str, recipe, figures: dict, url: str) -> None:
    """Store a run's figures beside it, where `stillhouse compare` finds them; those of a path or model are not."""
    from cluster.runs import Run, run_ids
    from cluster.store import open_store

    store = open_store(url)
    if what in run_ids(store):
        Run(store, what).keep_evaluation({**figures, "recipe": recipe.model_dump(mode="json")})


def run(published, recipe, url: str, full: bool = False) -> dict:
    """The figures of a published set under a recipe's evaluation settings."""
    from cluster import evaluating
    from cluster.progress import Bar
    from cluster.session import session

    with session(), Bar(common.console) as bar:
        return evaluating.evaluate(published, recipe, url, full, bar)
