"""Embeddings of classes, one file each, and the distances between classes that follow from them.

auto           the shipped table if one knows every class, else mean-image
clip-table     shipped distances of CLIP ViT-B/32 text embeddings: CIFAR-10, CIFAR-100, Tiny ImageNet
file:PATH      vectors of your own: .npy with its labels, .npz, .safetensors or .json
clip:NAME      a CLIP text encoder of transformers, by name or folder; open-clip:MODEL@FILE is one of open_clip
mean-colour, mean-image    from the training images
expert         mean features of the training images in a trained expert
"""

from collections.abc import Sequence

import numpy as np

from distill.context import Context
from distill.errors import RecipeError
from distill.order.embeddings import clip_table, clip_text, expert, file, images
from distill.order.measure import measure

EMBEDDINGS = (
    "auto",
    "clip-table",
    "file:PATH",
    "clip:NAME",
    "open-clip:MODEL@FILE",
    "mean-colour",
    "mean-image",
    "expert",
)
FROM_IMAGES = {"mean-colour": images.mean_colour, "mean-image": images.mean_image, "expert": expert.mean_features}
FROM_NAMES = {"file": file.read, "clip": clip_text.transformers_clip, "open-clip": clip_text.open_clip}


def resolve(source: str, classes: Sequence[str]) -> str:
    """The embedding that `auto` stands for with these class names; every other source is itself."""
    if source != "auto":
        return source
    return "clip-table" if clip_table.holding(classes) else "mean-image"


def distances(
    classes: Sequence[str], source: str = "auto", kind: str | None = None, context: Context | None = None
) -> np.ndarray:
    """Distances (c, c) float64 between classes, in their order, by the embedding `source`.

    `kind` is cosine (1 - cosine, as in the paper) or euclidean; by default euclidean for mean-colour and mean-image,
    whose angles mean little, and cosine for the rest. Embeddings from images need a context, and `expert` one with
    experts. Raises RecipeError for an unknown source or class, and for a missing file or missing weights.
    """
    source = resolve(source, classes)
    if source == "clip-table":
        return _from_table(classes, kind)
    name, colon, argument = source.partition(":")
    if colon and name in FROM_NAMES:
        return measure(FROM_NAMES[name](argument, classes), kind or "cosine")
    if source not in FROM_IMAGES:
        raise RecipeError(f"no embedding {source!r}: use one of {', '.join(EMBEDDINGS)}")
    if context is None:
        raise RecipeError(f"embedding {source!r} looks at the images: name a recipe, whose dataset holds them")
    return measure(FROM_IMAGES[source](context), kind or default_kind(source))


def default_kind(source: str) -> str:
    """The distance that suits an embedding."""
    return "euclidean" if source in ("mean-colour", "mean-image") else "cosine"


def _from_table(classes: Sequence[str], kind: str | None) -> np.ndarray:
    if kind not in (None, "cosine"):
        raise RecipeError(f"the shipped tables hold cosine distances, not {kind}: give embeddings with file:PATH")
    return clip_table.distances(classes)
