"""Embeddings from a trained network: the mean of each class's images in its feature space."""

import numpy as np

from distill.context import Context
from distill.order.embeddings.images import class_means
from distill.selectors.evidence import Evidence


def mean_features(context: Context) -> np.ndarray:
    """Mean features (c, d) of the training images of each class: inputs of expert 0's last layer after training.

    Without experts, of a briefly trained network, as for selectors (distill/selectors/evidence.py).
    """
    return class_means(Evidence(context).features, context.data.train.y.cpu(), context.classes)
