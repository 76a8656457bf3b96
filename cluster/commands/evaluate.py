"""`stillhouse evaluate RUN-OR-PATH`: fresh networks on a published set, with baselines."""

import time
from dataclasses import replace
from pathlib import Path

from cluster.commands import common, evaluation_table
from distill.errors import RecipeError, StoreError


def main(
    what: str,
    overrides: list[str],
    store: str | None,
    full: bool,
    scores: bool,
    baselines: str | None,
    networks: str | None,
    json: Path | None,
) -> None:
    from cluster.jobs import evaluating
    from cluster.jobs.asked import ask
    from cluster.jobs.progress import Reading
    from distill import nets
    from distill.recipe import override

    url, tracking, _ = common.places(store)
    common.log_to_console()
    published = evaluating.find(what, url, tracking)
    recipe = common.absolute(override(published.recipe, with_baselines(overrides, baselines), what))
    chosen = kinds(recipe, networks)
    for kind in chosen:
        nets.build(kind, published.shape, len(published.classes))  # what does not fit is refused now
    with Reading(common.console) as reading:
        asked = ask(recipe, chosen, published, url, reading, full=full, scores=scores)
    run = evaluating.run_of(what, url, tracking)
    started = time.monotonic()
    results = figures_of(asked, published, url, run, tracking)
    seconds = time.monotonic() - started
    title = f"{what}, {results[0]['network']}\n" if len(results) == 1 else f"{what}\n"
    title += evaluation_table.settings(recipe.evaluation, published.lr)
    if published.recipe["evaluation"]["selection"] == "best-on-test":
        title += "\nthe step was chosen on the TEST images (best-on-test): the distilled figure is flattered"
    evaluation_table.show(title, results)
    results = [{**result, "seconds": seconds} for result in results]
    common.write_json(json, results[0] if len(results) == 1 else results)


def figures_of(asked, published, url: str, run=None, tracking: str | None = None) -> list[dict]:
    """Figures for each kind of network: those that the run keeps already, else measured now and kept with it."""
    from cluster.jobs import evaluating
    from cluster.jobs.progress import Bar
    from cluster.jobs.session import session

    found = {k: run and evaluating.kept(run, asked, k) for k in asked.networks}
    missing = tuple(k for k, figures in found.items() if not figures)
    if len(missing) < len(found):
        common.console.print(
            f"{len(found) - len(missing)} of {len(found)} evaluations with these settings were made before and are "
            f"shown from {run.store.url}/{run.folder}/evaluations"
        )
    if missing:
        with session(), Bar(common.console) as bar:
            measured = evaluating.evaluate(replace(asked, networks=missing), published, url, bar)
        found |= dict(zip(missing, measured, strict=True))
    if run and missing:
        found |= {k: evaluating.keep(run, asked, k, found[k]) for k in missing}
        _track(run, [found[k] for k in missing], tracking)
    return list(found.values())


def _track(run, results: list[dict], tracking: str | None) -> None:
    """The figures on the MLflow page of the run, if it has one."""
    from cluster.jobs import evaluating

    try:
        evaluating.track(run, results, tracking)
    except StoreError as error:
        common.console.print(f"[yellow]not tracked in MLflow[/]: {error}", soft_wrap=True)


def with_baselines(overrides: list[str], baselines: str | None) -> list[str]:
    """Overrides with `--baselines`, a list with commas, or all."""
    import json
    from typing import get_args

    from distill.recipe import Evaluation

    if baselines is None:
        return overrides
    known = [*_names(get_args(Evaluation.model_fields["baselines"].annotation)[0])]
    names = known if baselines == "all" else [name for name in baselines.split(",") if name]
    if unknown := [name for name in names if name not in known]:
        raise RecipeError(f"--baselines: no {', '.join(unknown)}; there are all, {', '.join(known)}")
    return [*overrides, f"evaluation.baselines={json.dumps(names)}"]


def _names(annotation) -> list[str]:
    """The strings of a Literal, or of a union of some."""
    from typing import get_args

    return [name for part in get_args(annotation) for name in ([part] if isinstance(part, str) else _names(part))]


def kinds(recipe, networks: str | None) -> tuple:
    """The kinds of network that `--networks` names: `convnet,resnet,vgg/norm=batch`; the recipe's own without it.

    A kind that is the recipe's own has the recipe's settings, another has its defaults; `/key=value` changes them.
    """
    if networks is None:
        return (recipe.network,)
    return tuple(dict.fromkeys(_kind(recipe, text.strip()) for text in networks.split(",")))


def _kind(recipe, text: str):
    from distill.recipe import override

    name, *settings = text.split("/")
    table = recipe.model_dump(mode="json")
    if name != recipe.network.kind:
        table["network"] = {"kind": name}
    return override(table, [f"network.{setting}" for setting in settings], f"--networks {text}").network
