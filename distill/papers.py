"""Accuracies from papers, for comparison: distill/papers.toml, looked up by the name of the dataset."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

CIFAR10 = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}


@dataclass(frozen=True)
class Reference:
    """Accuracies from papers for one dataset, in percent."""

    title: str
    methods: dict[str, list[tuple[float, float]]]
    """(images per class, accuracy) of each method, by ascending images per class."""
    full: float | None
    """Accuracy with all training images."""


def reference(dataset: dict, classes: tuple[str, ...], side: int) -> Reference | None:
    """Accuracies for a recipe's `dataset` block with these class names and images of `side` pixels; None if unknown.

    A dataset is recognised by its kind, its subset or the last parts of its path, and only if the number of classes and
    the image side are those of the papers. CIFAR-10 is also recognised by its class names, and other class names
    exclude it.
    """
    if entry := _table().get(known_as(dataset, classes, side)):
        methods = {name: [tuple(pair) for pair in pairs] for name, pairs in entry["methods"].items()}
        return Reference(entry["title"], methods, entry.get("full"))
    return None


def known_as(dataset: dict, classes: tuple[str, ...], side: int) -> str:
    """Name of the dataset in papers.toml, such as cifar10; empty if it is unknown. Arguments as for reference()."""
    names = _names(dataset)
    if {name.lower() for name in classes} == CIFAR10:
        names.add("cifar10")
    elif not all(name.isdecimal() for name in classes):  # classes of arrays without names are numbered
        names -= {"cifar10"}
    for name, entry in _table().items():
        if names & set(entry["names"]) and len(classes) == entry["classes"] and side == entry["side"]:
            return name
    return ""


def _names(dataset: dict) -> set[str]:
    """Possible names of a dataset, in lower case letters and digits."""
    path = re.split(r"[/?]", str(dataset.get("path", "")))[-3:]
    names = [dataset.get("kind"), dataset.get("subset"), *path]
    return {re.sub(r"[^a-z0-9]", "", name.lower()) for name in names if name} - {""}


@cache
def _table() -> dict:
    return tomllib.loads((resources.files("distill") / "papers.toml").read_text(encoding="utf8"))
