"""`stillhouse evaluate` and `stillhouse baselines`: options, tables, what is kept with a run, figures put together."""

import io
import json
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from support import small
from support.cli import TINY, stillhouse

from cluster.cli import common, evaluate, evaluation_table
from cluster.cli.evaluate import _budgets
from cluster.jobs import evaluating, judging
from cluster.jobs.events import BudgetKnown, Event, NetworkMeasured, RowSkipped
from cluster.jobs.request import EvaluationRequest, request_for
from cluster.results.baselines import TITLES
from cluster.results.runs import Run
from cluster.store import open_store
from distill import context as contexts
from distill import recipe, synthetic
from distill.errors import DataError, RecipeError
from distill.evaluate.score import Measured
from distill.published import Images
from distill.recipe import ConvNet, Evaluation


def digits(*overrides: str) -> recipe.Recipe:
    return recipe.load("digits", list(overrides))


def measured(network: int, row: str, i: int, accuracy: float) -> NetworkMeasured:
    return NetworkMeasured(network, row, i, Measured((300,), (accuracy,), ()), None)


def test_networks_are_named_with_their_settings():
    kinds = evaluate.kinds(digits(), "convnet, convnet/norm=batch,resnet/width=16/shortcut=avgpool,convnet")
    assert [k.label for k in kinds] == ["convnet-d2-w32-instance", "convnet-d2-w32-batch", "resnet18ap-w16-instance"]
    assert evaluate.kinds(digits(), None) == (digits().network,)
    with pytest.raises(RecipeError, match="network"):
        evaluate.kinds(digits(), "perceptron")


def test_baselines_are_named_or_all():
    (override,) = evaluate.with_baselines([], "all")
    every = digits(override).evaluation.baselines
    assert {*every} == {*TITLES} and len(every) == 8
    assert digits(*evaluate.with_baselines([], "herding,full")).evaluation.baselines == ("herding", "full")
    with pytest.raises(RecipeError, match=r"no best-ones; there are all, random"):
        evaluate.with_baselines([], "random,best-ones")


def test_budgets_are_numbers_above_nothing():
    assert _budgets("0.5,10") == [0.5, 10.0] and _budgets(None) == []
    for wrong in ("0", "1,none", "-1", "inf"):
        with pytest.raises(RecipeError, match="--ipc"):
            _budgets(wrong)


def test_every_network_of_every_row_is_an_item_once():
    items = judging.assignments(2, ["distilled", "full"], 3)
    assert len({*items}) == len(items) == 12
    assert [i.row for i in items[:3]] == ["full"] * 3 and [i.network for i in items] == [0] * 6 + [1] * 6


def assembled(request: EvaluationRequest, rows: list[str], events: list[Event]) -> dict:
    found = evaluating._Results()
    assert all(found.add(event) for event in events)
    return evaluating._assembled(request, found, 0, rows)


def test_figures_do_not_depend_on_the_order_in_which_workers_finish():
    request = EvaluationRequest(digits(), (ConvNet(),), scores=True)
    events = [measured(0, row, i, base + 0.1 * i) for row, base in
              (("distilled", 0.6), ("random", 0.3), ("full", 0.8), ("distilled-other", 0.5), ("random-other", 0.4))
              for i in range(2)]  # fmt: skip
    events.append(RowSkipped(0, "forgetting", "no experts"))
    events.append(BudgetKnown(640, 1.0, 1.0))
    rows = ["distilled", "random", "forgetting", "full", "distilled-other", "random-other"]
    figures = assembled(request, rows, events)
    assert figures == assembled(request, rows, events[::-1])
    assert figures["mean"] == pytest.approx(0.65) and figures["random"]["mean"] == pytest.approx(0.35)
    assert figures["skipped"] == {"forgetting": "no experts"} and figures["budget_ipc"] == 1.0
    assert figures["scores"]["ior"] == pytest.approx(0.3) and figures["scores"]["hlr"] == pytest.approx(0.2)
    assert {*figures["score_rows"]} == {"distilled-other", "random-other"}


def test_figures_are_kept_with_the_run_under_what_was_asked(tmp_path):
    run = Run(open_store(f"file:{tmp_path}"), "digits-1")
    request, figures = EvaluationRequest(digits(), (ConvNet(),)), {"mean": 0.5, "std": 0.1, "n": 2}
    assert evaluating.kept(run, request, ConvNet()) is None
    assert evaluating.keep(run, request, ConvNet(), figures) == figures
    assert evaluating.kept(run, request, ConvNet())["mean"] == 0.5
    assert evaluating.keep(run, request, ConvNet(), {**figures, "mean": 0.6})["mean"] == 0.5, "the first stays"
    same = EvaluationRequest(digits("evaluation.workers=4", "outer.steps=7", "threads=1"), (ConvNet(),))
    assert evaluating.kept(run, same, ConvNet())
    for other in (
        EvaluationRequest(digits("evaluation.epochs=9"), ()),
        EvaluationRequest(digits(), (), scores=True),
        EvaluationRequest(digits("seed=1"), ()),
    ):
        assert evaluating.kept(run, other, ConvNet()) is None
    assert evaluating.kept(run, request, ConvNet(width=7)) is None


@pytest.fixture
def made():
    """A set of real digits, as a run would publish it."""
    context = contexts.prepare(digits(*TINY, "dataset.limit=300"), device=torch.device("cpu"))
    x, y = small.plain(synthetic.build(context))
    values, parts = context.recipe.model_dump(mode="json"), context.data.parts
    return small.published(x, y, x, context.data.classes, 0.1, values, 1, {}, parts)


def request_with(made, tmp_path, *overrides: str) -> EvaluationRequest:
    changed = recipe.override(made.recipe, list(overrides), "test")
    return request_for(changed, (changed.network,), made, f"file:{tmp_path}")


@pytest.mark.parametrize(
    "override, says",
    [("dataset.limit=200", "not the training images"), ("dataset.preprocess=zca", "distilled with stand")],
)
def test_other_data_than_the_sets_are_refused(made, tmp_path, override, says):
    with pytest.raises(DataError, match=says):
        request_with(made, tmp_path, override)


def test_the_split_and_whitening_are_the_runs_whatever_seed_draws_the_networks(made, tmp_path):
    request = request_with(made, tmp_path, "seed=5")
    assert (request.recipe.seed, request.data_seed) == (5, 0)
    fewer = request_with(made, tmp_path, "dataset.limit_test=50")
    assert fewer.data["train"] == request.data["train"] == made.data["train"]


def test_a_kept_evaluation_is_of_its_test_images_and_of_the_experts_that_were_there(made, tmp_path):
    request = request_with(made, tmp_path)
    others = [
        request_with(made, tmp_path, "dataset.limit_test=50"),
        replace(request, data={**request.data, "test": "other images under the same name"}),
        replace(request, experts="convnet-0123"),
    ]
    names = {one.digest(request.recipe.network) for one in (request, *others)}
    assert request.experts is None and len(names) == 4


def test_labels_are_soft_unless_they_are_one_hot(made, tmp_path, monkeypatch):
    rows = []
    monkeypatch.setattr(evaluating, "_figures", lambda request, chosen, *rest: rows.append(chosen))
    for y in (made.labels, made.labels * 1.2, made.labels + 1.0):
        relabelled = replace(made, stored=Images(made.images, y))
        evaluating.evaluate(EvaluationRequest(digits(), (), scores=True), relabelled, "", print, "data")
    assert ["distilled-hard" in chosen for chosen in rows] == [False, True, True]


def shown(results: list[dict], monkeypatch, *own: str) -> str:
    page = io.StringIO()
    monkeypatch.setattr(common, "console", Console(file=page, width=160))
    evaluation_table.show("title", results, *own)
    return page.getvalue()


def test_tables_show_rows_networks_lengths_scores_and_what_is_missing(monkeypatch):
    score = {"mean": 0.5, "std": 0.01, "n": 2}
    lengths = {"steps": 600, "by_steps": {"300": {**score, "mean": 0.4}, "600": score}}
    first = {**score, **lengths, "network": "convnet", "budget_ipc": 1.0, "random": {**score, "mean": 0.2, "n": 3}}
    first |= {"evaluation": Evaluation(protocol="podd").model_dump(), "scores": {"ior": 0.3}, "selection_network": None}
    first["skipped"] = {"full": "the store holds no such experts"}
    second = {**score, "mean": 0.7, "network": "resnet", "budget_ipc": 1.0, "evaluation": first["evaluation"]}
    page = shown([first, second], monkeypatch)
    assert "convnet" in page and "resnet" in page
    (random,) = [line for line in page.splitlines() if "random real images, 1 per class" in line and "±" in line]
    assert "20.0 ± 1.0" in random and "-" in random
    assert "[50.0 ± 1.0]" in page and "convnet by steps of training; in brackets the best on held-out images" in page
    assert "distilled, 1 per class" in page
    assert "its samples, 1 per class" in shown([first], monkeypatch, "its samples")
    assert "0.300" in page and "no all training images (convnet): the store holds no such experts" in page


def test_a_protocol_in_a_line():
    line = evaluation_table.settings(Evaluation(protocol="podd"), 0.02)
    assert "adam, lr 0.001, the whole set each step, 300/600/1000/2000 steps; augmentation: flip, rotate" in line
    assert "the learned lr 0.02 (real images: 0.01)" in evaluation_table.settings(Evaluation(), 0.02)


@pytest.mark.ray
def test_baselines_need_no_run_and_are_the_same_however_many_workers(monkeypatch, tmp_path):
    """Also below one image per class, and on two kinds of network; forgetting says what it lacks."""
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path))
    options = ("baselines", "digits", *TINY, "--ipc", "0.5", "--networks", "convnet,convnet/norm=batch")
    figures = []
    for workers in (1, 2):
        out = tmp_path / f"{workers}.json"
        chosen = ("--baselines", "random,entropy-low,forgetting,full", "--json", str(out))
        assert stillhouse(monkeypatch, *options, *chosen, f"evaluation.workers={workers}") == 0
        figures.append(json.loads(out.read_text()))
    one, two = ([{k: f[k] for k in f if k not in ("seconds", "evaluation")} for f in each] for each in figures)
    assert one == two and [f["network"] for f in one] == ["convnet-d1-w4-instance", "convnet-d1-w4-batch"]
    assert one[0]["budget_floats"] == 5 * 64 and one[0]["random"]["n"] == 2
    assert "stillhouse experts" in one[0]["skipped"]["forgetting"] and "--full" in one[0]["skipped"]["full"]
