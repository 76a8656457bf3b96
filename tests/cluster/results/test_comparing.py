"""Comparing runs: figures are read from the store, not computed; runs of other data are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import small
from support.cli import stillhouse

from cluster.results import comparing
from cluster.results.runs import Run
from cluster.store import open_store
from distill import recipe
from distill.errors import DataError
from distill.published import write

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture
def store(tmp_path):
    return open_store(f"file:{tmp_path}/store")


def score(mean: float, n: int = 2) -> dict:
    return {"mean": mean, "std": 0.01, "n": n}


def recipe_of(*overrides: str) -> recipe.Recipe:
    return recipe.load("mtt-cifar10-1ipc", ["dataset.path=/data/cifar10", *overrides])


def finish(
    store, run_id: str, ipc: int, mean: float, *overrides: str, side: int = 32, classes=CLASSES, data=None
) -> Run:
    """A run that has ended, of CIFAR-10 unless told otherwise."""
    x = torch.rand(len(classes), 3, side, side)
    made = recipe_of(f"synthetic.ipc={ipc}", *overrides)
    values = made.model_dump(mode="json")
    published = small.published(x, torch.eye(len(classes)), x, classes, 0.1, values, 3, {}, data or {})
    run = Run(store, run_id)
    result = {"test_mean": mean, "test_std": 0.01, "test_n": 3, "budget_ipc": float(ipc), "selection": "validation"}
    result |= {"protocol": made.evaluation.protocol, "network": made.network.label}
    folder = Path(store.url.removeprefix("file:")).parent / "scratch" / run_id
    run.publish(write(published, folder), result)
    return run


def evaluated(run: Run, figures: dict, *overrides: str) -> None:
    """An evaluation of it, kept as `stillhouse evaluate` keeps one."""
    made = recipe.override(run.published().recipe, list(overrides), "test")
    about = {"protocol": made.evaluation.protocol, "network": made.network.label, "budget_ipc": 1.0}
    run.keep_evaluation({**figures, **about, "recipe": made.model_dump(mode="json")})


def test_figures_are_the_runs_own_until_an_evaluation_has_more_networks(store):
    run = finish(store, "a-1", 10, 0.5)
    (entry,) = comparing.gather(["a-1"], store).entries
    assert (entry.ipc, entry.score, entry.baselines) == (10.0, {"mean": 0.5, "std": 0.01, "n": 3}, {})
    evaluated(run, score(0.4, n=2), "evaluation.networks=2")
    assert comparing.gather(["a-1"], store).entries[0].score["mean"] == 0.5
    evaluated(run, score(0.6, n=9), "evaluation.networks=9")
    assert comparing.gather(["a-1"], store).entries[0].score == {"mean": 0.6, "std": 0.01, "n": 9}


def test_baselines_are_those_of_evaluations_under_the_runs_own_settings(store):
    run = finish(store, "a-1", 1, 0.5)
    evaluated(run, {**score(0.5), "random": score(0.2), "baselines": {"herding": score(0.3)}, "full": score(0.8)})
    evaluated(run, {**score(0.1), "forgetting": score(0.9)}, "evaluation.epochs=3")
    evaluated(run, {**score(0.1), "k-means": score(0.9)}, "dataset.limit_test=10")
    evaluated(run, {**score(0.1), "entropy-low": score(0.9), "data": {"train": "of", "test": "others"}})
    found = comparing.gather(["a-1"], store)
    assert found.baselines == ["random", "herding", "full"]
    assert found.entries[0].baselines["herding"]["mean"] == 0.3


def test_the_same_evaluation_twice_is_one_object(store):
    run = finish(store, "a-1", 1, 0.5)
    for _ in range(2):
        evaluated(run, score(0.4))
    assert len(run.evaluations()) == 1


def test_runs_come_by_rising_budget_and_each_once(store):
    for run_id, ipc in (("a-50", 50), ("a-1", 1), ("a-10", 10)):
        finish(store, run_id, ipc, ipc / 100)
    found = comparing.gather(["a-50", "a-1", "a-10", "a-1"], store)
    assert [e.ipc for e in found.entries] == [1, 10, 50]
    assert found.published.title == "CIFAR-10"


def test_what_tells_runs_apart_is_shown_and_what_does_not_matter_is_not(store):
    finish(store, "a-1", 1, 0.5, "outer.steps=70", "outer.workers=2", "objective.segments=2", "name=other")
    finish(store, "b-1", 1, 0.4, "objective.segments=2")
    finish(store, "c-1", 1, 0.4, 'synthetic={kind="poster"}', "objective.segments=2")
    found = comparing.gather(["a-1", "b-1", "c-1"], store)
    assert [e.differing_settings["outer.steps"] for e in found.entries] == ["70", "5000", "5000"]
    shared = {"synthetic.init", "synthetic.labels.mode", "synthetic.labels.lr", "outer.steps"}
    assert all(set(e.differing_settings) == shared for e in found.entries), "what both kinds have"
    assert "| outer.steps | 70 | 5000 | 5000 |" in comparing.markdown(found, "x.png")
    assert "differ" not in comparing.markdown(comparing.gather(["a-1"], store), "x.png")


@pytest.mark.parametrize(
    ("overrides", "more", "named"),
    [
        (["dataset.path=/data/other"], {}, "data: b-1 has other, a-1 has cifar10"),
        ([], {"side": 16}, r"image shape: b-1 has \[3, 16, 16\]"),
        ([], {"classes": CLASSES[:3]}, "classes: b-1 has"),
        (["dataset.limit_test=100"], {}, "limits: b-1 has"),
        ([], {"data": {"train": "1", "test": "3"}}, "test images: b-1 has 3, a-1 has 2"),
    ],
)
def test_runs_of_different_data_are_refused(store, overrides, more, named):
    finish(store, "a-1", 1, 0.5, data={"train": "1", "test": "2"})
    finish(store, "b-1", 1, 0.5, *overrides, **more)
    with pytest.raises(DataError, match=f"(?s)different datasets.*{named}"):
        comparing.gather(["a-1", "b-1"], store)


def test_what_is_missing_or_unfinished_is_named_all_at_once(store):
    finish(store, "a-1", 1, 0.5)
    store.create("runs/b-1/checkpoints/00000001.safetensors", b"")
    with pytest.raises(DataError, match=r"(?s)b-1 has not ended.*c-1 is not in the store.*runs there: a-1, b-1"):
        comparing.gather(["a-1", "b-1", "c-1"], store)


def test_the_command_writes_table_plot_and_figures(store, tmp_path, monkeypatch, capsys):
    one, ten = finish(store, "a-1", 1, 0.25), finish(store, "a-10", 10, 0.5)
    evaluated(one, {**score(0.25), "random": score(0.15), "full": score(0.8)})
    evaluated(ten, {**score(0.5), "random": score(0.3)})
    monkeypatch.setenv("COLUMNS", "200")
    figures = tmp_path / "figures.json"
    arguments = ("compare", "a-1", "a-10", "--store", store.url, "--out", str(tmp_path / "cifar"))
    assert stillhouse(monkeypatch, *arguments, "--json", str(figures)) == 0
    said = capsys.readouterr().out
    assert "25.0 ± 1.0" in said and "30.0 ± 1.0" in said and "80.0 ± 1.0" in said
    text = (tmp_path / "cifar.md").read_text()
    assert "| a-10 | pixels x trajectory | convnet-d3-w128-instance |" in text and "](cifar.png)" in text
    assert "best step on the test images" in text and "| MTT |  |  |  | 46.3 | 65.3 | 71.6 |" in text
    with Image.open(tmp_path / "cifar.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    assert (np.abs(pixels - (63, 144, 218)).max(1) <= 2).sum() > 300, "the runs' line"
    assert [e["run_id"] for e in json.loads(figures.read_text())["entries"]] == ["a-1", "a-10"]
    assert stillhouse(monkeypatch, "compare", "a-1", "nothing", "--store", store.url) == 2
    assert "nothing is not in the store" in capsys.readouterr().err
