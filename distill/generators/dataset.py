"""An off-the-shelf generator as a dataset (generative thesis, table 4.2): networks are trained on images it draws.

    published = as_set(load_generator("cifar10.pkl"), recipe, dataset)    # then judged like any distilled set

The images are drawn once, in 256 levels as files have, and preprocessed as the real ones are.
"""

import torch
import torch.nn.functional as F

from distill.data.base import Dataset
from distill.errors import DataError, RecipeError
from distill.generators.load import PER_CLASS, PublishedGenerator
from distill.levels import LAST
from distill.published.forms import Images
from distill.published.published import Published
from distill.recipe import Labels, Pixels, Recipe
from distill.synthetic import pixels


def as_set(generator: PublishedGenerator, recipe: Recipe, data: Dataset, where: str = "the generator") -> Published:
    """evaluation.sampling.per_class images of each class (0: 50) at its truncation, as a set of `pixels`.

    Its recipe is the given one with these pixels. Raises DataError, with the fix, for an unconditional generator, or
    one whose resolution, channels or number of classes are not those of the data; RecipeError for redraw_every.
    """
    sampling, (c, h, w), classes = recipe.evaluation.sampling, data.shape, len(data.classes)
    if not generator.classes:
        raise DataError(
            f"{where}: is unconditional: nothing says of which class an image is, and no network can be trained on it; "
            "use a class-conditional generator"
        )
    if (h, w) != (generator.resolution,) * 2:
        raise DataError(
            f"{where}: makes images of {generator.resolution}x{generator.resolution} pixels, the data have {h}x{w}: "
            f"set dataset.size={generator.resolution}, or use a generator of {h} px"
        )
    if generator.channels != c:
        raise DataError(f"{where}: makes images of {generator.channels} channels, the data have {c}: use other data")
    if generator.classes != classes:
        raise DataError(
            f"{where}: has {generator.classes} classes, the data have {classes}: use the data that it was trained on"
        )
    if sampling.redraw_every:
        raise RecipeError("evaluation.sampling.redraw_every: images of such a generator are drawn once; leave it out")
    n = sampling.per_class or PER_CLASS
    labels, g = torch.arange(classes).repeat_interleave(n), torch.Generator().manual_seed(recipe.seed)
    shown = generator.sampler(n).fresh(labels, g, sampling.truncation).clamp(0, 1).mul(LAST).round() / LAST
    x, y = data.preprocess(shown.to(data.train.x)), F.one_hot(labels, classes).to(data.train.x)
    state = pixels.Pixels(x, y, Labels()).published_state()
    own = recipe.model_copy(update={"synthetic": Pixels(ipc=n)})
    return Published(
        Images(x, y), data.classes, data.preprocess, None, own.model_dump(mode="json"), 0, state, shown, data.parts
    )
