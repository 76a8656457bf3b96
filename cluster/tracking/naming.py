"""Names of registered models, by which the registry is browsed: dataset, method, kind of set, budget.

cifar10-mtt-pixels-1ipc          MTT on CIFAR-10, images as pixels, the storage of one image per class
digits-rat-bptt-poster-0p5ipc    a poster of the digits, the storage of half an image per class
"""

import re

from cluster.results.comparing import dataset_name
from distill import papers
from distill.recipe import Recipe

LONGEST = 63
SUFFIXES = re.compile(r"\.(tar\.gz|tgz|tar|zip|npz|parquet)$")


def model_name(recipe: Recipe, classes: tuple[str, ...], side: int, ipc: float) -> str:
    """The registered model for sets of this recipe, [a-z0-9-], at most 63 letters.

    `classes` are the class names of the data, `side` the shorter side of an image in pixels, `ipc` the budget in images
    per class: all stored numbers, labels included, rounded to two digits. A dataset of the papers has its usual name.
    """
    dataset = recipe.dataset.model_dump(mode="json")
    rest = f"-{slug(recipe.objective.method)}-{slug(recipe.synthetic.kind)}-{budget(ipc)}"
    data = papers.known_as(dataset, classes, side) or slug(SUFFIXES.sub("", dataset_name(dataset))) or "data"
    return data[: LONGEST - len(rest)].strip("-") + rest


def budget(ipc: float) -> str:
    """A budget as names have it: 1ipc, 0p5ipc for half an image per class, 0p083ipc, 120ipc."""
    return f"{float(f'{ipc:.2g}'):.10f}".rstrip("0").rstrip(".").replace(".", "p") + "ipc"


def slug(text: str) -> str:
    """Lower case letters and digits, anything else as single dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
