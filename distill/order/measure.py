"""Distances between classes, from one embedding of each."""

import numpy as np

from distill.errors import RecipeError

MEASURES = ("cosine", "euclidean")


def measure(embeddings: np.ndarray, kind: str) -> np.ndarray:
    """Distances (c, c) float64 between embeddings (c, d): 1 - cosine (PoDD, section 4.2), or Euclidean.

    Symmetric, 0 on the diagonal. Raises RecipeError for NaN, a zero vector if the kind is cosine, or another kind.
    """
    x = np.asarray(embeddings, np.float64)
    if kind not in MEASURES:
        raise RecipeError(f"no distance {kind!r} between embeddings: use one of {', '.join(MEASURES)}")
    if not np.isfinite(x).all():
        raise RecipeError(
            f"class {int(np.argwhere(~np.isfinite(x))[0, 0])} has an embedding with NaN or Inf: correct it"
        )
    distances = _cosine(x) if kind == "cosine" else _euclidean(x)
    distances = (distances + distances.T) / 2
    np.fill_diagonal(distances, 0)
    return distances.clip(min=0)


def _cosine(x: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(x, axis=1)
    if not norms.all():
        raise RecipeError(f"class {int(norms.argmin())} has an embedding of zeros, which has no angle: use euclidean")
    unit = x / norms[:, None]
    return 1 - unit @ unit.T


def _euclidean(x: np.ndarray) -> np.ndarray:
    if x.size < 2**20:
        return np.linalg.norm(x[:, None] - x[None], axis=2)
    squares = (x**2).sum(1)  # through inner products, which need no (c, c, d) array
    return np.sqrt((squares[:, None] + squares[None] - 2 * x @ x.T).clip(min=0))
