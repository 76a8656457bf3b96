"""A map of real and synthetic images in a network's feature space: t-SNE, as figures 3.3 and 4.15 of the generative
thesis show it.

    embedding = embed(features_of_real, real_y, features_of_synthetic, synthetic_y, classes)
    draw(embedding, "my run", Path("map.png"))
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor

from distill import rng
from distill.errors import DataError
from distill.nets import Network

COLOURS = color_sequences["petroff10"]
"""Ten colours that colour-blind people can tell apart (Petroff 2021)."""
MOST_CLASSES = len(COLOURS)
PERPLEXITY = 30
COMPONENTS = 50
"""Principal components that t-SNE works on, as its authors do."""
CHUNK = 500


@dataclass(frozen=True)
class Embedding:
    """Positions of images on the map: real (n, 2) and synthetic (m, 2), with their classes (n,) and (m,)."""

    real: np.ndarray
    real_y: np.ndarray
    synthetic: np.ndarray
    synthetic_y: np.ndarray
    classes: tuple[str, ...]

    def as_dict(self) -> dict:
        """JSON values: one entry per image, real ones first."""
        parts = ((self.real, self.real_y, False), (self.synthetic, self.synthetic_y, True))
        points = [
            {"x": float(x), "y": float(y), "class": self.classes[label], "synthetic": synthetic}
            for positions, labels, synthetic in parts
            for (x, y), label in zip(positions, labels, strict=True)
        ]
        return {"classes": list(self.classes), "points": points}


def features(network: Network, theta: Tensor, x: Tensor, statistics: Tensor | None = None) -> np.ndarray:
    """The input (n, d) of the last linear layer of theta (p,) for images (n, c, h, w), float32."""
    with torch.no_grad():
        parts = [network.features(theta, part, statistics) for part in x.split(CHUNK)]
    return torch.cat(parts).float().cpu().numpy()


def chosen(y: Tensor, classes: int, most: int, seed: int) -> Tensor:
    """At most `most` rows of the first `classes` classes, drawn from the seed, in order."""
    rows = (y < classes).nonzero().flatten().cpu()
    drawn = torch.randperm(len(rows), generator=rng.generator(seed, "embed"))[:most]
    return rows[drawn.sort().values].to(y.device)


def embed(
    real: np.ndarray,
    real_y: np.ndarray,
    synthetic: np.ndarray,
    synthetic_y: np.ndarray,
    classes: tuple[str, ...],
) -> Embedding:
    """Real (n, d) and synthetic (m, d) features laid out together in the plane (van der Maaten & Hinton 2008).

    It starts from the principal components without random numbers, so the same features give the same map. Raises
    DataError for fewer than four images in all.
    """
    together = np.concatenate([real, synthetic]).astype(np.float64)
    if len(together) < 4:
        raise DataError(f"a map of {len(together)} images shows nothing: take more real images")
    if min(together.shape) > COMPONENTS:
        together = PCA(COMPONENTS, svd_solver="full").fit_transform(together)
    perplexity = min(PERPLEXITY, (len(together) - 1) / 3)
    positions = TSNE(2, perplexity=perplexity, init="pca", random_state=0, n_jobs=1).fit_transform(together)
    return Embedding(positions[: len(real)], real_y, positions[len(real) :], synthetic_y, tuple(classes))


# ---------------------------------------------------------------- picture


def draw(embedding: Embedding, title: str, path: Path) -> None:
    """Write a PNG: a dot for each real image, a star for each synthetic one, coloured by class.

    Raises DataError if the file cannot be written or there are more classes than colours.
    """
    if len(embedding.classes) > MOST_CLASSES:
        raise DataError(f"{len(embedding.classes)} classes are too many for colours: show {MOST_CLASSES} or fewer")
    figure = Figure(figsize=(9.5, 7.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    _points(axes, embedding)
    axes.set(xticks=[], yticks=[], aspect="equal", anchor="W")
    axes.spines[:].set_color("0.8")
    axes.margins(0.03)
    axes.set_title(_plain(title), loc="left", fontsize=11)
    beside = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
    axes.legend(handles=_legend(embedding), frameon=False, fontsize=10, **beside)
    try:
        figure.savefig(path, format="png", bbox_inches="tight")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; name a file that can be written") from None


def _points(axes: Axes, e: Embedding) -> None:
    dot = float(np.clip(30_000 / max(len(e.real), 1), 8, 45))
    star = float(np.clip(12_000 / max(len(e.synthetic), 1), 60, 300))
    axes.scatter(*e.real.T, s=dot, c=_colours(e.real_y), alpha=0.55, linewidths=0)
    axes.scatter(*e.synthetic.T, s=2 * star, c="white", marker="*", linewidths=0, zorder=3)
    stars = {"marker": "*", "linewidths": 1.1, "edgecolors": "black"}
    axes.scatter(*e.synthetic.T, s=star, c=_colours(e.synthetic_y), zorder=4, **stars)


def _colours(y: np.ndarray) -> list[tuple[float, float, float]]:
    return [COLOURS[k] for k in y]


def _legend(e: Embedding) -> list[Line2D]:
    """One entry per class, then one each for dots and stars."""

    def mark(marker: str, size: int, colour, label: str, edge="none") -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, ms=size, mfc=colour, mec=edge, label=label)

    entries = [mark("o", 8, COLOURS[k], _plain(name)) for k, name in enumerate(e.classes)]
    entries.append(mark("o", 5, "0.5", f"real ({len(e.real)})"))
    return [*entries, mark("*", 14, "0.8", f"synthetic ({len(e.synthetic)})", "black")]


def _plain(text: str) -> str:
    """Escape "$": names come from files and recipes, and a "$" in them starts no formula."""
    return text.replace("$", r"\$")
