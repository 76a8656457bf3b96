"""Names of registered models: dataset, method, kind of set, budget."""

import re

import pytest

from cluster.tracking.naming import budget, model_name
from distill import recipe

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NUMBERS = tuple("0123456789")
CASES = [
    ("mtt-cifar10-1ipc", [], CIFAR10, 32, 1.0, "cifar10-mtt-pixels-1ipc"),
    ("mtt-cifar10-1ipc", ["dataset.path=/data/cifar-10/parquet"], CIFAR10, 32, 1.0, "cifar10-mtt-pixels-1ipc"),
    ("podd-cifar10-05", [], CIFAR10, 32, 0.4987, "cifar10-rat-bptt-poster-0p5ipc"),
    ("datm-cifar10-10ipc", [], CIFAR10, 32, 10.03, "cifar10-datm-pixels-10ipc"),
    ("digits", [], NUMBERS, 8, 1.156, "digits-mtt-pixels-1p2ipc"),
    ("digits", ["objective.kind=distribution"], NUMBERS, 8, 1.0, "digits-dm-pixels-1ipc"),
    ("digits", ["objective.kind=distribution", "objective.distance=ncfm"], NUMBERS, 8, 1.0, "digits-ncfm-pixels-1ipc"),
    ("digits", ["objective.kind=gradient"], NUMBERS, 8, 1.0, "digits-dsa-pixels-1ipc"),
    ("digits", ["objective.kind=gradient", "objective.augment.strategies=[]"], NUMBERS, 8, 1, "digits-dc-pixels-1ipc"),
    ("digits", ["objective.kind=unrolled"], NUMBERS, 8, 1.0, "digits-rat-bptt-pixels-1ipc"),
    ("digits", ["objective.kind=unrolled", "objective.automatic=true"], NUMBERS, 8, 1, "digits-at-bptt-pixels-1ipc"),
    ("digits", ["objective.kind=unrolled", "objective.window=200"], NUMBERS, 8, 1, "digits-bptt-pixels-1ipc"),
    ("digits", ["objective.kind=unrolled", "objective.pool=5"], NUMBERS, 8, 1, "digits-frepo-pixels-1ipc"),
    ("digits", ["synthetic.kind=canvas"], NUMBERS, 8, 4, "digits-mtt-canvas-4ipc"),
]


@pytest.mark.parametrize("name, overrides, classes, side, ipc, expected", CASES)
def test_a_model_is_named_by_what_it_is(name, overrides, classes, side, ipc, expected):
    assert model_name(recipe.load(name, overrides), classes, side, ipc) == expected


@pytest.mark.parametrize(
    "path, data",
    [("My Photos (2024)", "my-photos-2024"), ("a/b/birds.tar.gz", "birds"), ("x" * 90, "x" * 43), ("ü", "data")],
)
def test_a_folder_of_any_name_gives_an_allowed_name(path, data):
    """`x` * 90 is cut so that the whole name has 63 letters."""
    table = {"name": "own", "dataset": {"kind": "folder", "path": path}}
    name = model_name(recipe.parse(table, "own"), ("a", "b"), 32, 0.0833)
    assert name == f"{data}-mtt-pixels-0p083ipc" and re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name)


@pytest.mark.parametrize(
    "ipc, text",
    [(1, "1ipc"), (0.5, "0p5ipc"), (0.3, "0p3ipc"), (99.6, "100ipc"), (123, "120ipc"), (0.00012, "0p00012ipc")],
)
def test_budgets_have_two_digits(ipc, text):
    assert budget(ipc) == text
