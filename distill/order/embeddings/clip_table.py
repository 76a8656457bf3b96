"""Distances between the classes of three datasets, shipped with the package in distill/order/tables/.

1 - cosine of CLIP ViT-B/32 text embeddings; distill/order/tables/README.md says where they come from. A dataset whose
classes are a part of a table's is served too. `python -m distill.order.tables.make` makes such a table.
"""

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np
from safetensors import safe_open

from distill.errors import RecipeError
from distill.order.embeddings.names import find, plain

LEVELS = 65535  # distances are stored in 16 bits, in parts of the largest


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
        with safe_open(path, framework="np") as opened:
            about = json.loads(opened.metadata()["table"])
            above = opened.get_tensor("distances").astype(np.float64)
    classes = about["classes"]
    apart = np.zeros((len(classes), len(classes)))
    apart[np.triu_indices(len(classes), 1)] = above * (about["largest"] / LEVELS)
    return tuple(classes), apart + apart.T


def holding(classes: Sequence[str]) -> str | None:
    """The smallest shipped table that knows every one of these classes."""
    wanted = {plain(name) for name in classes}
    return next((name for name in tables() if wanted <= {plain(known) for known in table(name)[0]}), None)


def distances(classes: Sequence[str]) -> np.ndarray:
    """Distances (c, c) between classes, from the table that knows them. RecipeError where none does."""
    name = holding(classes)
    if name is None:
        shown = ", ".join(repr(k) for k in classes[:5]) + (", ..." if len(classes) > 5 else "")
        raise RecipeError(
            f"no shipped table ({', '.join(tables())}) knows all of the classes {shown}: use an embedding that is made "
            "of the images (mean-image, mean-colour, expert), of a file (file:PATH) or of CLIP weights (clip:NAME)"
        )
    names, apart = table(name)
    rows = find(classes, names, f"the table {name}")
    return apart[np.ix_(rows, rows)]
