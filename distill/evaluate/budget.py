"""How many real images a budget of floats allows, and sets of real images.

Every Synthetic counts what a user must store (`Synthetic.budget`); a real image costs its pixels, its plain label costs
nothing. Beside a set in 8 bits real images count with 8 bits too.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from distill import recipe
from distill.context import Context
from distill.selectors import Evidence, select
from distill.synthetic.pixels import Pixels


def per_class(context: Context, floats: int) -> float:
    """A budget in images per class."""
    return floats / (math.prod(context.data.shape) * context.classes)


def image_counts(context: Context, pixels: int, g: torch.Generator) -> list[int]:
    """Number of real images of each class within a budget of pixel values: as many whole images as fit, spread evenly.

    If they do not divide evenly, the generator draws the classes that get one more; below one image per class the
    others get none.
    """
    images = pixels // math.prod(context.data.shape)
    each, more = divmod(images, context.classes)
    counts = torch.full((context.classes,), each)
    if more:
        counts[torch.randperm(context.classes, generator=g)[:more]] += 1
    return counts.tolist()


def real_set(context: Context, counts: int | list[int], g: torch.Generator) -> Pixels:
    """Random real training images as a synthetic set: `counts` of every class, or a list with a count per class."""
    counts = [counts] * context.classes if isinstance(counts, int) else counts
    return set_of(context, select("random", Evidence(context), counts, g))


def set_of(context: Context, rows: Tensor) -> Pixels:
    """The training images `rows` (n,) as a synthetic set with plain labels."""
    train = context.data.train
    rows = rows.to(train.x.device)
    return Pixels(train.x[rows].clone(), F.one_hot(train.y[rows], context.classes).to(train.x), recipe.Labels())
