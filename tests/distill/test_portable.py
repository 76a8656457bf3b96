"""Recipes that are published: which settings count as chosen, and no path of the machine."""

import pytest

from distill import recipe
from distill.recipe import chosen, portable, with_paths_of

PATHS = {
    "/data/of/somebody/cifar10": "cifar10", "/data/cifar10/": "cifar10", "/x": "x", "file:/a/b.png": "file:b.png",
    "C:\\data\\cifar10": "cifar10", "cifar10": "cifar10", "a/cifar10": "a/cifar10", "file:b.png": "file:b.png",
    "s3://bucket/prefix": "s3://bucket/prefix", "https://host/a": "https://host/a", "/": "/", "": "", "auto": "auto",
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_absolute_paths_are_cut_to_their_last_part(path):
    values = {"dataset": {"path": path, "size": 3}, "list": [path, 1.5, None]}
    cut = portable(values)
    assert cut == {"dataset": {"path": PATHS[path], "size": 3}, "list": [PATHS[path], 1.5, None]}
    assert portable(cut) == cut and values["dataset"]["path"] == path


def test_the_paths_of_the_machine_come_back_where_they_fit():
    own = {"dataset": {"path": "/data/cifar10", "limit": 5}, "synthetic": {"start": "file:/a/b.png"}, "seed": 1}
    values = portable({**own, "dataset": {"path": "/data/cifar10", "limit": 7}})
    restored = with_paths_of(values, own)
    assert restored == {**own, "dataset": {"path": "/data/cifar10", "limit": 7}}
    other = {"dataset": {"path": "/data/cifar100"}}
    assert with_paths_of(values, other) == values and with_paths_of(values, {}) == values


def test_few_settings_are_chosen_and_every_kind_is_among_them():
    read = recipe.load("mtt-cifar10-1ipc", ["outer.lr_img=12", "objective.syn_steps=50"])
    found = chosen(recipe.parse(read.model_dump(mode="json"), "stored"))
    kinds = {f"{block}.kind" for block in ("dataset", "network", "synthetic", "objective")}
    assert kinds <= found.keys() and found["outer.lr_img"] == 12 and "objective.syn_steps" not in found
    assert len(found) < 15 < len(recipe.dotted(read.model_dump(mode="json")))


def test_what_a_sweep_varies_counts_even_where_it_is_a_default():
    read = recipe.load("mtt-cifar10-1ipc")
    found = chosen(read, ("objective.syn_steps", "network"))
    assert found["objective.syn_steps"] == 50 and found["network.width"] == 128
    assert "objective.syn_steps" not in chosen(read) and "network.width" not in chosen(read)
