"""A distilled set, ready to train on, with its recipe."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import TensorDataset

from distill.data.preprocess import Preprocess
from distill.errors import DataError
from distill.published.forms import Stored


@dataclass(frozen=True)
class Published:
    """A distilled set. `images`, `labels`, `classes`, `lr`, `preprocess` and `dataset()` are what training needs."""

    stored: Stored
    classes: tuple[str, ...]
    preprocess: Preprocess | None
    """Converts real images (n, c, h, w) in [0, 1] to what networks see: apply it to test images. None in format
    versions 1 and 2, which do not contain it."""
    lr: float | None
    """The learned learning rate for training on the set; None if it was not learned."""
    recipe: dict
    """The resolved recipe as JSON values; `recipe["evaluation"]` is how networks are trained on the set."""
    step: int
    """The outer step of the set."""
    state: dict[str, Tensor]
    """learned_state() of the Synthetic, which restores it."""
    shown: Tensor | None = None
    """The stored images in [0, 1] (Stored.shown)."""
    data: dict[str, str] = field(default_factory=dict)
    """Digests of the raw training and test data (Raw.parts); empty in sets of early versions."""
    pictures: dict[str, Image.Image] = field(default_factory=dict)
    """Synthetic.pictures(); empty in a set that was read from a file."""

    def __len__(self) -> int:
        return len(self.stored)

    @cached_property
    def images(self) -> Tensor:
        """Training images as networks see them, float32 (n, c, h, w)."""
        return self.stored.images()

    @property
    def labels(self) -> Tensor:
        """Label probabilities of the images, float32 (n, classes)."""
        return self.stored.y

    @cached_property
    def pixels(self) -> Tensor:
        """The images in [0, 1], float32 (n, c, h, w), for display."""
        if self.shown is None:
            return self.preprocess.to_pixels(self.images)
        return self.stored.pixels(self.shown)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of a training image."""
        return tuple(self.images.shape[1:])

    def dataset(self) -> TensorDataset:
        """Pairs of image and label probabilities, for a torch DataLoader."""
        return TensorDataset(self.images, self.labels)

    def draw(self, per_class: int, seed: int = 0, truncation: float = 1.0) -> tuple[Tensor, Tensor]:
        """New images and labels (n, classes) from a set that is a Sampler. Raises DataError for other sets."""
        labels = torch.arange(len(self.classes)).repeat_interleave(per_class)
        x = self.stored.fresh(labels, torch.Generator().manual_seed(seed), truncation)
        return x, torch.nn.functional.one_hot(labels, len(self.classes)).float()

    def check(self, where: str) -> None:
        """Raise DataError, naming `where`, if the parts do not fit together."""
        if fault := self._fault():
            raise DataError(f"{where}: {fault}: publish it again")

    def _fault(self) -> str:
        if fault := self.stored.fault():
            return fault
        if self.stored.y.shape[1] != len(self.classes):
            return f"labels {tuple(self.stored.y.shape)} and {len(self.classes)} classes do not fit together"
        if self.shown is None and self.preprocess is None:
            return "it has neither pixels nor the preprocessing to make them"
        if self.shown is not None and not self.stored.fits(self.shown):
            return f"pixels {tuple(self.shown.shape)} and the images do not fit together"
        shape = self.stored.image_shape()
        return self.preprocess.fault(shape) if self.preprocess and shape else ""
