"""`stillhouse order`: what it prints, draws and writes, and what it refuses."""

import json
import tomllib

import numpy as np
import pytest
from PIL import Image
from support.cli import stillhouse

from distill.order import distances, layout, score
from distill.order.embeddings import clip_table


@pytest.fixture(autouse=True)
def wide(monkeypatch, tmp_path):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    for name in ("STILLHOUSE_STORE", "STILLHOUSE_DATA"):
        monkeypatch.delenv(name, raising=False)


def test_a_shipped_table_needs_nothing_else(monkeypatch, capsys, tmp_path):
    picture, figures = tmp_path / "order.png", tmp_path / "order.json"
    arguments = ("order", "cifar10", "--layout", "optimal", "--out", str(picture), "--json", str(figures))
    assert stillhouse(monkeypatch, *arguments) == 0
    said, wrote = capsys.readouterr().out, json.loads(figures.read_text())
    classes, apart = clip_table.table("cifar10")
    assert wrote["grid"] == layout(apart, 2, 5, "optimal") and wrote["layout"] == "optimal"
    assert wrote["embedding"] == "clip-table" and wrote["distance"] == "cosine"
    assert wrote["score"] == pytest.approx(score(apart, wrote["grid"])) == wrote["scores"]["optimal"]
    assert wrote["scores"]["optimal"] > wrote["scores"]["greedy"] > wrote["scores"]["random"]
    assert all(name in said for name in classes)
    assert Image.open(picture).size[0] > 600


def test_what_it_prints_can_be_put_into_a_recipe(monkeypatch, capsys):
    assert stillhouse(monkeypatch, "order", "cifar100", "--rows", "5", "--columns", "20") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("synthetic.")]
    table = tomllib.loads("\n".join(lines))["synthetic"]
    classes, apart = clip_table.table("cifar100")
    wanted = [classes[k] for row in layout(apart, 5, 20, "greedy") for k in row]
    assert table == {"rows": 5, "columns": 20, "order": wanted}


def test_a_written_order_can_be_given_again(monkeypatch, capsys, tmp_path):
    file, again = tmp_path / "a.json", tmp_path / "b.json"
    assert stillhouse(monkeypatch, "order", "cifar10", "--layout", "random", "--seed", "7", "--json", str(file)) == 0
    assert stillhouse(monkeypatch, "order", "cifar10", "--order", str(file), "--json", str(again)) == 0
    first, second = (json.loads(path.read_text()) for path in (file, again))
    assert second["layout"] == "given" and second["grid"] == first["grid"] and second["score"] == first["score"]
    numbers = str([k for row in first["grid"] for k in row])
    assert stillhouse(monkeypatch, "order", "cifar10", "--layout", "given", "--order", numbers) == 0


def test_classes_no_table_knows_are_ordered_by_their_images(monkeypatch, capsys, tmp_path):
    file = tmp_path / "digits.json"
    assert stillhouse(monkeypatch, "order", "digits", "dataset.limit=400", "--json", str(file)) == 0
    wrote = json.loads(file.read_text())
    assert wrote["embedding"] == "mean-image" and wrote["distance"] == "euclidean"

    from distill import context, recipe

    made = context.prepare(recipe.load("digits", ["dataset.limit=400"]))
    apart = distances(made.data.classes, "mean-image", context=made)
    assert wrote["grid"] == layout(apart, 2, 5, "greedy")


def test_the_grid_of_a_posters_recipe_is_taken(monkeypatch, capsys, tmp_path):
    file = tmp_path / "poster.json"
    poster = ("synthetic.kind=poster", "synthetic.rows=1", "synthetic.columns=10", "dataset.limit=400")
    assert stillhouse(monkeypatch, "order", "digits", *poster, "--json", str(file)) == 0
    assert np.shape(json.loads(file.read_text())["grid"]) == (1, 10)


def test_a_posters_recipe_is_shown_as_it_will_run(monkeypatch, capsys, tmp_path):
    from distill import context, recipe, synthetic

    file = tmp_path / "poster.json"
    settings = ["dataset.limit=400", "synthetic.order=optimal", "synthetic.embedding=mean-colour", "seed=3"]
    assert stillhouse(monkeypatch, "order", "poster-digits-10", *settings, "--json", str(file)) == 0
    wrote = json.loads(file.read_text())
    made = synthetic.build(context.prepare(recipe.load("poster-digits-10", settings)))
    assert wrote["layout"] == "optimal" and wrote["grid"] == made.order[0].tolist()
    listed = "synthetic.order=[[9,8,7,6,5],[4,3,2,1,0]]"
    assert stillhouse(monkeypatch, "order", "poster-digits-10", "dataset.limit=400", listed, "--json", str(file)) == 0
    assert json.loads(file.read_text())["grid"] == [[9, 8, 7, 6, 5], [4, 3, 2, 1, 0]]
    rows = ("--order", "[[9,8,7,6,5],[4,3,2,1,0]]")
    assert stillhouse(monkeypatch, "order", "digits", "dataset.limit=400", *rows, "--json", str(file)) == 0
    assert json.loads(file.read_text())["grid"] == [[9, 8, 7, 6, 5], [4, 3, 2, 1, 0]]


REFUSED = {
    "no such dataset": (("cifar11",), "cifar11"),
    "overrides of a table": (("cifar10", "seed=1"), "table"),
    "grid too small": (("cifar10", "--rows", "3"), "9 cells for 10 classes"),
    "unknown layout": (("cifar10", "--layout", "spiral"), "spiral"),
    "unknown embedding": (("cifar10", "--embedding", "glove"), "glove"),
    "images of a table": (("cifar10", "--embedding", "mean-image"), "name a recipe"),
    "table without the classes": (("digits", "--embedding", "clip-table"), "'0'"),
    "no experts": (("digits", "--embedding", "expert"), "stillhouse experts"),
    "layout given alone": (("cifar10", "--layout", "given"), "without --order"),
    "order with greedy": (("cifar10", "--layout", "greedy", "--order", "[1]"), "with --order"),
    "order no list": (("cifar10", "--order", "cat dog"), "list"),
    "order not whole": (("cifar10", "--order", '["cat"]'), "'ship' is missing"),
    "order file absent": (("cifar10", "--order", "no.json"), "no such file"),
    "picture nowhere": (("cifar10", "--out", "/no/such/folder/x.png"), "folder"),
    "picture of another kind": (("cifar10", "--out", "x.bmp"), ".png"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_one_message(case, monkeypatch, capsys, tmp_path):
    arguments, named = REFUSED[case]
    assert stillhouse(monkeypatch, "order", *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error:") and named in said, said
    assert not (tmp_path / "home").exists()
