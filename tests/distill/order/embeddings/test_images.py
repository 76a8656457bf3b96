"""Embeddings from the images: class means worked out by hand, and by a plain loop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import small

from distill.data.base import Split
from distill.data.preprocess import Preprocess
from distill.errors import RecipeError
from distill.order import distances
from distill.order.embeddings import images
from distill.order.embeddings.expert import mean_features


class Halved(Preprocess):
    def inverse(self, x):
        return x * 2


def coloured():
    """Three classes of 2x2 RGB images: two red ones of 0.2 and 0.6, a green one, a blue one; stored as x / 2."""
    x = torch.zeros(4, 3, 2, 2)
    x[0, 0], x[1, 0], x[2, 1], x[3, 2] = 0.2, 0.6, 0.5, 0.5
    context = small.context("distribution")
    data = replace(context.data, train=Split(x / 2, torch.tensor([0, 0, 1, 2])), preprocess=Halved())
    return replace(context, data=data)


def test_mean_colours_are_those_of_the_pixels():
    context = coloured()
    np.testing.assert_allclose(images.mean_colour(context), [[0.4, 0, 0], [0, 0.5, 0], [0, 0, 0.5]], atol=1e-7)
    apart = distances(context.data.classes, "mean-colour", context=context)
    assert apart[0, 1] == pytest.approx(np.hypot(0.4, 0.5)) and apart[1, 2] == pytest.approx(np.hypot(0.5, 0.5))
    assert distances(context.data.classes, "mean-colour", "cosine", context)[0, 1] == pytest.approx(1)


def test_mean_images_keep_every_pixel(monkeypatch):
    monkeypatch.setattr(images, "CHUNK", 7)
    context = small.context("distribution")
    pixels = context.data.preprocess.to_pixels(context.data.train.x).double()
    wanted = [pixels[context.data.train.y == k].mean(0).flatten().tolist() for k in range(3)]
    np.testing.assert_allclose(images.mean_image(context), wanted, atol=1e-6)


def test_expert_features_are_those_of_the_last_epoch():
    context = small.context("trajectory")
    theta = context.experts.theta[0, -1]
    train = context.data.train
    features = context.network.features(theta, train.x)
    wanted = torch.stack([features[train.y == k].mean(0) for k in range(3)])
    np.testing.assert_allclose(mean_features(context), wanted.numpy(), atol=1e-5)


def test_without_experts_a_network_is_trained_briefly():
    context = replace(small.context("trajectory"), experts=None)
    apart = distances(context.data.classes, "expert", context=context)
    assert apart.shape == (3, 3) and apart[0, 1] > 0
    np.testing.assert_array_equal(apart, distances(context.data.classes, "expert", context=context))


def test_without_images_the_fix_is_said():
    with pytest.raises(RecipeError, match="name a recipe"):
        distances(("a", "b"), "mean-image")
    with pytest.raises(RecipeError, match="clip-table, file:PATH"):
        distances(("a", "b"), "word2vec")
