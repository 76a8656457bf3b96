"""What sets start from: one that Stillhouse published, or a generator in a `.pkl` file of others' code.

    published = published_start(settings, context)     # None unless `start`, or of pixels `init`, names a file

Either draws images as its own networks see them. `drawn_for` changes how it scales them to what the networks of this
recipe see, where scale and shift per channel are enough; `seen_here` does so for any images.
"""

from dataclasses import replace

import torch
from torch import Tensor

from distill import recipe
from distill.context import Context
from distill.data.preprocess import Preprocess
from distill.errors import RecipeError
from distill.generators import load_generator
from distill.published.files import read
from distill.published.forms import Sampler
from distill.published.published import Published

PER_CHANNEL = ("none", "standardize")
"""Preprocessing that a generator can do by its own scale and shift."""


def published_start(
    settings: recipe.Generator | recipe.GeneratorXL | recipe.Latents | recipe.Pixels, context: Context
) -> Published | None:
    """The published set or generator that the recipe names, if any. Raises DataError if it cannot be read, RecipeError
    if it does not fit the data."""
    if not settings.file:
        return None
    pickle = settings.file.suffix == ".pkl"
    published = load_generator(settings.file).published() if pickle else read(settings.file)
    _check_fits(published, context, f"synthetic.{settings.from_file}", unconditional=settings.kind == "latents")
    return published


def _check_fits(published: Published, context: Context, setting: str, unconditional: bool) -> None:
    """Raise RecipeError if it has other classes or images than the data."""
    stored, shape = published.stored, context.data.shape
    if isinstance(stored, Sampler):
        own = tuple(stored.fresh(torch.tensor([0]), torch.Generator().manual_seed(0)).shape[1:])
        if unconditional and not stored.settings["classes"] and own == shape:
            return
    else:
        own = published.shape
    if own != shape or len(published.classes) != context.classes:
        raise RecipeError(
            f"{setting}: a set of {len(published.classes)} classes and images {own}, but the data have "
            f"{context.classes} and {shape}: give a set of the same data"
            + (f", or set dataset.size={own[1]}" if own[0] == shape[0] and own[1] == own[2] != shape[1] else "")
        )


def check_drawn_by(stored: Sampler, module: str) -> None:
    """Raise RecipeError if images are drawn by another module than that of distill.nets."""
    if stored.module != module:
        raise RecipeError(f"synthetic.start: its images are drawn by {stored.module}; give a set of {module}")


def drawn_for(published: Published, context: Context) -> Sampler:
    """A published generator that draws images as the networks of this recipe see them.

    Raises RecipeError if its images were preprocessed in a way that scale and shift per channel cannot make up for.
    """
    theirs, ours = published.preprocess, context.data.preprocess
    if _same(theirs, ours):
        return published.stored
    if not {theirs.kind, ours.kind} <= set(PER_CHANNEL):
        usable = "standardize" if theirs.kind == "none" else theirs.kind
        raise RecipeError(
            f"synthetic.start: its images have the preprocessing {theirs.kind!r}, those of the recipe {ours.kind!r}, "
            f"and a generator can't change whole images from one to the other: set dataset.preprocess={usable}"
        )
    stored, channels = published.stored, context.data.shape[0]
    scale = torch.tensor(stored.settings.get("scale") or [1.0] * channels)
    shift = torch.tensor(stored.settings.get("shift") or [0.0] * channels)
    zero, one = ours(theirs.inverse(torch.stack([shift, shift + scale])[:, :, None, None])).flatten(1)
    return replace(stored, settings=stored.settings | {"scale": (one - zero).tolist(), "shift": zero.tolist()})


def own_weights(stored: Sampler) -> dict[str, Tensor]:
    """A copy of the weights of a published generator."""
    return {name: t.clone() for name, t in stored.weights.items()}


def seen_here(images: Tensor, theirs: Preprocess | None, ours: Preprocess) -> Tensor:
    """Images (n, c, h, w) with the preprocessing `theirs`, as networks see them that were given `ours`. Sets of early
    versions do not say theirs, which is then taken to be ours."""
    return images if theirs is None or _same(theirs, ours) else ours(theirs.inverse(images))


def _same(a: Preprocess, b: Preprocess) -> bool:
    """Whether transforms are the same, or whitenings of one kind, which differ by the images they were fitted to."""
    if a.kind != b.kind or a.kind not in PER_CHANNEL:
        return a.kind == b.kind
    return all(torch.equal(t.cpu(), b.state()[name].cpu()) for name, t in a.state().items())
