"""Embeddings from a trained expert: where in its feature space the images of a class lie on average."""

import numpy as np

from distill.context import Context
from distill.errors import RecipeError
from distill.order.embeddings.images import class_means


def mean_features(context: Context) -> np.ndarray:
    """Mean features (c, d) of the training images of each class: what the last layer of expert 0 sees at its end.

    Raises RecipeError where the context has no experts.
    """
    if context.experts is None:
        raise RecipeError("embedding 'expert' needs a trained expert: `stillhouse experts RECIPE` trains one")
    theta = context.experts.snapshot(0, context.experts.epochs[-1]).to(context.device)
    return class_means(context, lambda x: context.network.features(theta, x))
