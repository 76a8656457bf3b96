"""Embeddings from a trained network: where in its feature space the images of a class lie on average."""

import numpy as np

from distill.context import Context
from distill.order.embeddings.images import class_means
from distill.selectors.evidence import Evidence


def mean_features(context: Context) -> np.ndarray:
    """Mean features (c, d) of the training images of each class: what the last layer of expert 0 sees at its end.

    Without experts, through a network that is trained briefly, as selectors look (distill/selectors/evidence.py).
    """
    return class_means(Evidence(context).features, context.data.train.y.cpu(), context.classes)
