"""What a budget of floats buys in real images, and sets made of real images.

Every Synthetic counts what a user must store (`Synthetic.budget`); a real image costs its pixels, and its plain label
nothing.
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
    """A budget as images per class."""
    return floats / (math.prod(context.data.shape) * context.classes)


def image_counts(context: Context, floats: int, g: torch.Generator) -> list[int]:
    """Real images of each class that a budget buys: as many whole images as it holds, spread evenly.

    Where classes cannot have equally many, the generator draws those that have one more; below one image per class
    the others have none.
    """
    images = floats // math.prod(context.data.shape)
    each, more = divmod(images, context.classes)
    counts = torch.full((context.classes,), each)
    if more:
        counts[torch.randperm(context.classes, generator=g)[:more]] += 1
    return counts.tolist()


def real_set(context: Context, counts: int | list[int], g: torch.Generator) -> Pixels:
    """Random real training images as a synthetic set; so many of each class."""
    counts = [counts] * context.classes if isinstance(counts, int) else counts
    return set_of(context, select("random", Evidence(context), counts, g))


def set_of(context: Context, rows: Tensor) -> Pixels:
    """The training images `rows` (n,) as a synthetic set with plain labels."""
    train = context.data.train
    rows = rows.to(train.x.device)
    return Pixels(train.x[rows].clone(), F.one_hot(train.y[rows], context.classes).to(train.x), recipe.Labels())
