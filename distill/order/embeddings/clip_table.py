"""Distances between the classes of three datasets, shipped with the package in distill/order/tables/.

1 - cosine of CLIP ViT-B/32 text embeddings; distill/order/tables/README.md says where they come from. A table also
serves a dataset with some of its classes. `python -m distill.order.tables.make` makes one.
"""

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np
from safetensors import safe_open

from distill.errors import RecipeError
from distill.order.embeddings.names import find, plain

LEVELS = 65535  # distances are stored in 16 bits, relative to the largest


def tables() -> list[str]:
    """Names of the shipped tables, smallest first."""
    files = [
        entry for entry in resources.files("distill.order.tables").iterdir() if entry.name.endswith(".safetensors")
    ]
    return [file.name.removesuffix(".safetensors") for file in sorted(files, key=lambda file: file.stat().st_size)]


@cache
def table(name: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The class names of a shipped table and their distances (c, c), float64, to 1e-5."""
    with resources.as_file(resources.files("distill.order.tables") / f"{name}.safetensors") as path:
        with safe_open(path, framework="np") as file:
            metadata = json.loads(file.metadata()["table"])
            levels = file.get_tensor("distances").astype(np.float64)
    classes = metadata["classes"]
    upper = np.zeros((len(classes), len(classes)))
    upper[np.triu_indices(len(classes), 1)] = levels * (metadata["largest"] / LEVELS)
    return tuple(classes), upper + upper.T


def holding(classes: Sequence[str]) -> str | None:
    """The smallest shipped table that knows every one of these classes."""
    wanted = {plain(name) for name in classes}
    return next((name for name in tables() if wanted <= {plain(known) for known in table(name)[0]}), None)


def distances(classes: Sequence[str]) -> np.ndarray:
    """Distances (c, c) between classes, from the table that knows them. RecipeError if none does."""
    name = holding(classes)
    if name is None:
        shown = ", ".join(repr(k) for k in classes[:5]) + (", ..." if len(classes) > 5 else "")
        raise RecipeError(
            f"no shipped table ({', '.join(tables())}) knows all of the classes {shown}: use an embedding from the "
            "images (mean-image, mean-colour, expert), from a file (file:PATH) or from CLIP weights (clip:NAME)"
        )
    names, known = table(name)
    indices = find(classes, names, f"the table {name}")
    return known[np.ix_(indices, indices)]
