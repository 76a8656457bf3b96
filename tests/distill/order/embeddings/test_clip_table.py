"""The shipped tables: whose classes they hold, and that they are the distances of the embeddings they were made of."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from distill.errors import RecipeError
from distill.order.embeddings import clip_table, distances, resolve
from distill.order.tables.make import write

SOURCE = Path(os.environ.get("STILLHOUSE_DATA", "")) / "clip_text"


def test_three_datasets_are_served():
    sizes = {name: len(clip_table.table(name)[0]) for name in clip_table.tables()}
    assert sizes == {"cifar10": 10, "cifar100": 100, "tiny-imagenet": 200}
    for name in sizes:
        _, apart = clip_table.table(name)
        assert (apart == apart.T).all() and (np.diag(apart) == 0).all() and apart[apart > 0].min() > 0.03


@pytest.mark.skipif(not SOURCE.is_dir(), reason="needs the embeddings in $STILLHOUSE_DATA/clip_text")
@pytest.mark.parametrize("name", ["cifar10", "cifar100", "tiny-imagenet"])
def test_they_are_the_cosine_distances_of_the_embeddings(name):
    stem = name.replace("-", "_")
    x = np.load(SOURCE / f"{stem}_clip_vitb32_text_f16.npy").astype(float)
    classes, apart = clip_table.table(name)
    assert list(classes) == json.loads((SOURCE / f"{stem}_labels.json").read_text())
    np.testing.assert_allclose(apart, cdist(x, x, "cosine"), atol=1e-5)


def test_what_is_near_in_meaning_is_near():
    classes, apart = clip_table.table("cifar10")
    d = {(a, b): apart[i, j] for i, a in enumerate(classes) for j, b in enumerate(classes)}
    assert d["cat", "dog"] < d["cat", "ship"] and d["automobile", "truck"] < d["automobile", "frog"]


def test_a_part_of_the_classes_in_any_order_and_spelling():
    part = ("Goldfish", "king_penguin", "lemon")
    classes, apart = clip_table.table("tiny-imagenet")
    rows = [
        next(i for i, name in enumerate(classes) if name.lower().startswith(p))
        for p in ("goldfish", "king penguin", "lemon")
    ]
    np.testing.assert_array_equal(distances(part, "clip-table"), apart[np.ix_(rows, rows)])
    assert clip_table.holding(("ship", "cat")) == "cifar10" and clip_table.holding(("cat", "gnu")) is None


def test_auto_is_the_table_where_one_knows_the_classes():
    assert resolve("auto", ("ship", "cat")) == "clip-table"
    assert resolve("auto", ("0", "1")) == "mean-image"
    assert resolve("expert", ("ship", "cat")) == "expert"


def test_unknown_classes_and_other_distances_are_refused():
    with pytest.raises(RecipeError, match="'0', '1'.*mean-image"):
        distances(("0", "1"), "clip-table")
    with pytest.raises(RecipeError, match="cosine"):
        distances(("ship", "cat"), "clip-table", "euclidean")


def test_a_table_reads_back_what_was_written(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(7, 5))
    write(x, [f"k{i}" for i in range(7)], tmp_path / "own.safetensors")
    monkeypatch.setattr(clip_table.resources, "files", lambda package: tmp_path)
    classes, apart = clip_table.table("own")
    assert classes == tuple(f"k{i}" for i in range(7))
    np.testing.assert_allclose(apart, cdist(x, x, "cosine"), atol=2e-5)
