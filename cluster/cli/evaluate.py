"""`stillhouse evaluate RUN-OR-PATH`: fresh networks on a published set, with baselines.
`stillhouse baselines RECIPE --ipc 1,10`: the baselines alone, before anything is distilled.
"""

import time
from dataclasses import replace
from typing import Annotated

import typer

from cluster.cli import common, evaluation_table, planning
from cluster.cli.options import Fid, Json, Overrides, RecipeName, RunName, Store, app
from distill.errors import RecipeError

Full = Annotated[bool, typer.Option(help="Train networks on the full data if the store holds no experts.")]
Baselines = Annotated[
    str | None,
    typer.Option(
        help="all, or a list with commas: random, herding, kmeans-nearest, kmeans-farthest, forgetting, entropy-high, "
        "entropy-low, full [default: evaluation.baselines]"
    ),
]
Networks = Annotated[
    str | None,
    typer.Option(
        help="Kinds of network with commas, each with settings behind slashes: convnet,resnet/norm=batch,vgg,alexnet "
        "[default: the recipe's]"
    ),
]


@app.command()
def evaluate(
    what: RunName,
    overrides: Overrides = None,
    store: Store = None,
    full: Full = False,
    scores: Annotated[
        bool, typer.Option(help="Also the scores of DD-Ranking (HLR, IOR, LRS, ARS), which take more trainings.")
    ] = False,
    baselines: Baselines = None,
    networks: Networks = None,
    fid: Fid = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="For a generator of others (.pkl): the recipe, or the data, whose images, network and protocol count."
        ),
    ] = None,
    json: Json = None,
):
    """Train fresh networks on a published set and judge them on the test images, baselines beside it."""
    from cluster.jobs import evaluating
    from cluster.jobs import fid as fids
    from cluster.jobs.progress import Reading
    from cluster.jobs.request import request_for
    from distill import nets

    url, tracking, _ = common.places(store)
    common.log_to_console()
    fid = fid and fids.check(fid)
    overrides = with_baselines(overrides or [], baselines)
    with Reading(common.console) as reading:
        published, loaded, dataset = _named(what, recipe, overrides, url, tracking, reading)
        chosen = kinds(loaded, networks)
        for kind in chosen:
            nets.build(kind, published.shape, len(published.classes))  # what does not fit is refused now
        request = request_for(loaded, chosen, published, url, reading, dataset, full=full, scores=scores)
    run = evaluating.run_of(what, url, tracking)
    started = time.monotonic()
    results = figures_of(request, published, url, run, tracking)
    seconds = time.monotonic() - started
    title = f"{what}, {results[0]['network']}\n" if len(results) == 1 else f"{what}\n"
    title += evaluation_table.settings(loaded.evaluation, published.lr)
    if published.recipe["evaluation"]["selection"] == "best-on-test":
        title += "\nthe step was chosen on the TEST images (best-on-test): the distilled figure is flattered"
    evaluation_table.show(title, results, "its samples" if what.endswith(".pkl") else "distilled")
    results = [{**result, "seconds": seconds} for result in results]
    if fid:
        measured = fids.measure(published, loaded, fid, url, request.load())
        common.console.print(str(measured), soft_wrap=True)
        results = [{**result, "fid": measured.as_dict()} for result in results]
        if run:
            fids.keep(run, measured, loaded.evaluation.sampling.truncation)
            common.tracked(lambda: fids.track(run, published, measured, tracking))
    common.write_json(json, results[0] if len(results) == 1 else results)


def _named(what: str, recipe: str | None, overrides: list[str], url: str, tracking: str, reading):
    """(set, recipe, its data if they are read already) of the set or of the generator that `what` names."""
    from cluster.jobs import evaluating
    from distill.recipe import override

    if not what.endswith(".pkl"):
        if recipe:
            raise RecipeError(f"--recipe {recipe}: {what} has a recipe of its own; override its settings as KEY=VALUE")
        published = evaluating.find(what, url, tracking)
        return published, common.absolute(override(published.recipe, overrides, what)), None
    if not recipe:
        raise RecipeError(
            f"{what}: a generator of others does not say which images it is to be judged on: add --recipe NAME or PATH"
        )
    import torch

    from distill import data
    from distill.generators import load_generator
    from distill.generators.dataset import as_set

    loaded, generator = common.read(recipe, overrides), load_generator(what)
    dataset = data.load(loaded.dataset, loaded.seed, torch.device("cpu"), reading)
    published = as_set(generator, loaded, dataset, what)
    return published, override(published.recipe, [], what), dataset


@app.command()
def baselines(
    recipe: RecipeName,
    overrides: Overrides = None,
    store: Store = None,
    ipc: Annotated[
        str | None, typer.Option(help="Budgets in images per class, with commas [default: the recipe's]")
    ] = None,
    full: Full = False,
    baselines: Baselines = None,
    networks: Networks = None,
    json: Json = None,
):
    """Train fresh networks on real images alone, chosen as the baselines are: needs no distilled set."""
    from cluster.jobs import evaluating
    from cluster.jobs.progress import Reading
    from cluster.jobs.request import EvaluationRequest

    loaded = planning.read(recipe, with_baselines(overrides or [], baselines))
    url, _, _ = common.places(store)
    common.log_to_console()
    request = EvaluationRequest(loaded, kinds(loaded, networks), full)
    budgets, each, started = _budgets(ipc), [], time.monotonic()
    with common.session() as ray:
        with Reading(common.console) as reading:
            dataset = request.load(reading)
        budgets = budgets or [_budget_of(loaded, dataset)]
        shared = ray.share(dataset)
        with common.shown(loaded.name) as bar:
            each += [evaluating.baselines(request, budget, url, bar, shared) for budget in budgets]
    title = f"{recipe}: {evaluation_table.settings(loaded.evaluation, None)}"
    for results in each:
        evaluation_table.show(title, results)
    seconds = time.monotonic() - started
    common.write_json(json, [{**result, "seconds": seconds} for results in each for result in results])


def figures_of(request, published, url: str, run=None, tracking: str | None = None, dataset=None) -> list[dict]:
    """Figures for each kind of network: those stored by an earlier evaluation, else measured now and stored.

    `dataset` is the request's data, if they are shared already.
    """
    from cluster.jobs import evaluating

    known = {k: run and evaluating.kept(run, request, k) for k in request.networks}
    missing = tuple(k for k, figures in known.items() if not figures)
    if len(missing) < len(known):
        common.console.print(
            f"{len(known) - len(missing)} of {len(known)} evaluations with these settings were made before and are "
            f"shown from {run.store.url}/{run.folder}/evaluations"
        )
    if missing:
        with common.session() as ray:
            dataset = dataset or ray.share(request.load())
            with common.shown(run.run_id if run else request.recipe.name) as bar:
                wanted = replace(request, networks=missing)
                measured = evaluating.evaluate(wanted, published, url, bar, dataset)
        known |= dict(zip(missing, measured, strict=True))
    if run and missing:
        known |= {k: evaluating.keep(run, request, k, known[k]) for k in missing}
        _track(run, [known[k] for k in missing], tracking)
    return list(known.values())


def _track(run, results: list[dict], tracking: str | None) -> None:
    """The figures on the MLflow page of the run, if it has one."""
    from cluster.jobs import evaluating

    common.tracked(lambda: evaluating.track(run, results, tracking))


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


def _budgets(ipc: str | None) -> list[float]:
    """The images per class that `--ipc` lists; none without it."""
    try:
        budgets = [float(part) for part in ipc.split(",")] if ipc else []
    except ValueError:
        raise RecipeError(f"--ipc {ipc}: write numbers with commas, as in --ipc 1,10") from None
    if bad := [budget for budget in budgets if not 0 < budget < float("inf")]:
        raise RecipeError(f"--ipc: {bad[0]:g} images per class; give numbers above 0")
    return budgets


def _budget_of(recipe, dataset) -> float:
    """What the recipe's set would store, as images per class."""
    from distill import context as contexts
    from distill import synthetic
    from distill.evaluate.budget import per_class

    context = contexts.prepare(recipe, dataset=dataset)
    return per_class(context, synthetic.blank(context).budget().total)
