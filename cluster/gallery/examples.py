"""Real training images of each class, to look at beside the distilled ones."""

import torch
from torch import Tensor

from distill import data, rng
from distill.data.split import limited
from distill.errors import DataError
from distill.published import Published
from distill.recipe import parse


def real_images(published: Published, count: int) -> list[Tensor]:
    """For each class `count` random training images (k, c, h, w) in [0, 1], fewer if there are fewer.

    Raises DataError if the data are not here, or differ from those that the set was distilled from.
    """
    recipe = parse(published.recipe, "of a published set")
    settings = recipe.dataset
    raw = limited(data.read(settings), settings.limit, settings.limit_test, settings.limit_class)
    if published.data and raw.parts["train"] != published.data["train"]:
        raise DataError("the data at hand are not those that the set was distilled from")
    chosen = []
    for k in range(len(raw.classes)):
        rows = (raw.train_y == k).nonzero().flatten()
        shuffled = torch.randperm(len(rows), generator=rng.generator(recipe.seed, "gallery examples", k))
        chosen.append(raw.train_x[rows[shuffled[:count]]].float() / 255)
    return chosen
