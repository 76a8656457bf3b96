"""What is learned. A Synthetic yields training batches that are differentiable down to its parameters."""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor, nn

from distill.crops import Crops
from distill.picture import sheet
from distill.recipe import Outer

ToPixels = Callable[[Tensor], Tensor]
"""Images (n, c, h, w) as networks see them to [0, 1]."""


class Synthetic(nn.Module):
    """Base of every synthetic set; a new one is one file with a class and a `build(settings, context)`.

    It never asks which Objective drives it. What the objective, the evaluator and the exporter use is all here.
    """

    classes: int

    def __len__(self) -> int:
        """Training images of one pass."""
        raise NotImplementedError

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images (b, c, h, w) and label probabilities (b, classes) of the items `index` (b,).

        All chance comes from the generator, so that the same call gives the same batch.
        """
        raise NotImplementedError

    def project(self) -> None:
        """Bring parameters back to where they are allowed, after each outer step."""

    def parameter_groups(self, outer: Outer) -> list[dict]:
        """Groups for the outer optimiser."""
        return [{"params": [p for p in self.parameters() if p.requires_grad], "lr": outer.lr_img}]

    def budget_floats(self) -> int:
        """All floats a user must store to train on this set, labels included unless they are the plain classes."""
        raise NotImplementedError

    def describe(self) -> str:
        """What the set is, in a line."""
        return f"{len(self)} training images"

    def training_set(self) -> tuple[Tensor, Tensor]:
        """One pass as fixed tensors: images (n, c, h, w) and label probabilities (n, classes)."""
        with torch.no_grad():
            return self.batch(torch.arange(len(self)), torch.Generator().manual_seed(0))

    def crops(self, to_pixels: ToPixels) -> Crops | None:
        """The larger images that the training set is cut out of, if it is: they are stored in its place."""
        return None

    def pictures(self, to_pixels: ToPixels, classes: tuple[str, ...]) -> dict[str, Image.Image]:
        """Pictures of the set by name, `synthetic` the one that shows it best."""
        x, y = self.training_set()
        return {"synthetic": sheet(to_pixels(x), y, classes)}
