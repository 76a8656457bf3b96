"""The papers' figures for a dataset, to set beside one's own: distill/papers.toml, found by what data are called."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

CIFAR10 = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}


@dataclass(frozen=True)
class Reference:
    """What the papers report for one dataset, in percent."""

    title: str
    methods: dict[str, list[tuple[float, float]]]
    """Per method (images per class, accuracy), rising."""
    full: float | None
    """Accuracy with all training images."""


def reference(dataset: dict, classes: tuple[str, ...], side: int) -> Reference | None:
    """The figures for a recipe's `dataset` block with these class names and images of `side` pixels; None if unknown.

    Data are known by the last parts of their path, their reader's kind or their subset, and only where the number of
    classes and the image side are those of the papers. CIFAR-10 is known by its class names too, and not without them.
    """
    called = _names(dataset)
    if {name.lower() for name in classes} == CIFAR10:
        called.add("cifar10")
    elif not all(name.isdecimal() for name in classes):  # arrays without names are numbered
        called -= {"cifar10"}
    for entry in _table().values():
        if called & set(entry["names"]) and len(classes) == entry["classes"] and side == entry["side"]:
            methods = {name: [tuple(pair) for pair in pairs] for name, pairs in entry["methods"].items()}
            return Reference(entry["title"], methods, entry.get("full"))
    return None


def _names(dataset: dict) -> set[str]:
    path = re.split(r"[/?]", str(dataset.get("path", "")))[-3:]
    told = [dataset.get("kind"), dataset.get("subset"), *path]
    return {re.sub(r"[^a-z0-9]", "", part.lower()) for part in told if part} - {""}


@cache
def _table() -> dict:
    return tomllib.loads((resources.files("distill") / "papers.toml").read_text(encoding="utf8"))
