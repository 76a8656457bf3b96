"""Fréchet distance between real images and those of a set (FID, Heusel et al. 2017), in the features of any network.

    measured = fid(published, context, "experts")       # or random, file:weights.safetensors, inception:weights.pth
    measured.value, measured.of_classes, measured.features

FID is a distance between two normal distributions of features: its size depends on the network. `features` names it
and belongs beside every figure; those in other features, such as Inception's in papers, cannot be compared with it.
Small sets have a larger FID than large ones like them, so generators draw as many images as there are real ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from distill import features
from distill.context import Context
from distill.errors import DataError, RecipeError
from distill.levels import LAST
from distill.published.forms import Sampler
from distill.published.published import Published

CHUNK = 500
INCEPTION = 2048
"""Size of Inception's features that papers use."""
FEWEST = 2
"""Images with which a covariance can be computed."""
DEFAULT_OF_FID = -1
"""Which random network or expert: not the first, against whose features a GAN may have been trained."""


@dataclass(frozen=True)
class FID:
    """Fréchet distances of a set to the training images."""

    value: float
    by_class: dict[str, float]
    """By name of the class: of its images alone. Classes with fewer than two images are left out."""
    features: str
    """The network in whose features it was measured."""
    images: int
    real: int
    """Numbers of images that were compared."""

    @property
    def of_classes(self) -> float | None:
        """Class FID: the mean over classes; None if none has two images."""
        return sum(self.by_class.values()) / len(self.by_class) if self.by_class else None

    def as_dict(self) -> dict:
        """JSON values."""
        return {
            "fid": self.value, "class_fid": self.of_classes, "by_class": self.by_class, "features": self.features,
            "images": self.images, "real": self.real,
        }  # fmt: skip

    def __str__(self) -> str:
        of_classes = "" if self.of_classes is None else f", {self.of_classes:.4g} as the mean of classes"
        return (
            f"FID {self.value:.4g}{of_classes}, {self.images:,} images against {self.real:,} real ones\n"
            f"in the features of {self.features}: not comparable with FID in others, such as Inception's"
        )


def fid(published: Published, context: Context, choice: str, truncation: float = 1.0) -> FID:
    """FID and class FID of a set against the training images of `context`, whose preprocessing must be the set's.

    `choice` names the features: `random`, `experts` (the last one), `file:PATH` (distill/features.py) or
    `inception:PATH`, the weights that torch-fidelity publishes. Raises their errors.
    """
    train = context.data.train
    if choice.startswith("inception:"):
        embed, label = inception(Path(choice.partition(":")[2]), context), "Inception v3, as in papers"
    else:
        embed = features.of(choice, context, DEFAULT_OF_FID)
        label = embed.label
    x, y = images_of(published, train.y, truncation, context.seed)
    if len(x) < FEWEST:
        raise DataError(f"FID needs {FEWEST} images or more, this set has {len(x)}")
    real, own = embedded(embed, train.x), embedded(embed, x.to(train.x))
    rows = [(k, train.y == k, (y == k).to(own.device)) for k in range(context.classes)]
    by_class = {
        context.data.classes[k]: distance(real[of_real], own[of_own])
        for k, of_real, of_own in rows
        if min(of_real.sum(), of_own.sum()) >= FEWEST
    }
    return FID(distance(real, own), by_class, label, len(x), len(train))


def images_of(published: Published, y: Tensor, truncation: float, seed: int) -> tuple[Tensor, Tensor]:
    """Images (n, c, h, w) as networks see them, and classes (n,): as many of each as labels y of real ones from a
    generator, all images of any other set."""
    if isinstance(published.stored, Sampler):
        y = y.cpu().sort().values
        return published.stored.fresh(y, torch.Generator().manual_seed(seed), truncation), y
    return published.images, published.labels.argmax(1)


@torch.no_grad()
def embedded(embed: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Features (n, d) of images x (n, c, h, w), some at a time."""
    return torch.cat([embed(part) for part in x.split(CHUNK)])


def distance(real: Tensor, own: Tensor) -> float:
    """Fréchet distance between features (n, d) and (m, d), in float64."""
    metric = FrechetInceptionDistance(feature=_Given(real.shape[1])).to(real.device)
    for rows, is_real in ((real, True), (own, False)):
        for part in rows.split(CHUNK):
            metric.update(part, real=is_real)
    return max(0.0, metric.set_dtype(torch.float64).compute().item())


class _Given(nn.Module):
    """What torchmetrics takes for a network: the features are known already."""

    def __init__(self, size: int):
        super().__init__()
        self.num_features = size

    def forward(self, x: Tensor) -> Tensor:
        return x


def inception(path: Path, context: Context) -> Callable[[Tensor], Tensor]:
    """Inception's features of images as networks see them. Raises DataError without the file or torch-fidelity."""
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; give Inception's weights as torch-fidelity publishes them "
            "(pt_inception-2015-12-05-6726825d.pth), or measure in other features"
        )
    try:
        metric = FrechetInceptionDistance(INCEPTION, feature_extractor_weights_path=str(path))
    except ModuleNotFoundError:
        raise RecipeError(
            "FID in Inception's features needs torch-fidelity: `pip install torch-fidelity`, or measure in the "
            "features of experts"
        ) from None
    network, to_pixels = metric.inception.to(context.device), context.data.preprocess.to_pixels

    def embed(x: Tensor) -> Tensor:
        pixels = to_pixels(x).clamp(0, 1)
        pixels = pixels if pixels.shape[1] == 3 else pixels.expand(-1, 3, -1, -1)
        return network(pixels.mul(LAST).round().to(torch.uint8))

    return embed
