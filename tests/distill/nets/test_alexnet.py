"""AlexNet: its size counted by hand, what it computes, what it refuses."""

import pytest
import torch
import torch.nn.functional as F

from distill import nets, recipe, rng
from distill.errors import RecipeError


def build(side=32, channels=3, classes=10, **settings):
    return nets.build(recipe.AlexNet(**settings), (channels, side, side), classes)


@pytest.mark.parametrize("side", [32, 64, 128])
def test_size_is_five_convolutions_and_a_linear_layer_on_four_by_four(side):
    convs = (25 * 3 * 128 + 128) + (25 * 128 * 192 + 192) + (9 * 192 * 256 + 256) + (9 * 256 * 192 + 192)
    convs += 9 * 192 * 192 + 192
    linear = 192 * 4 * 4 * 10 + 10
    assert build(side, norm="none").layout.size == convs + linear == 1872202
    assert build(side).layout.size == convs + linear + 2 * (128 + 192 + 256 + 192 + 192)


@pytest.mark.parametrize(("side", "stride"), [(32, 1), (64, 2), (128, 4)])
def test_it_computes_what_the_papers_network_does(side, stride):
    net = build(side, width=2, classes=3, norm="none")
    theta, x = net.init(rng.generator(0, "theta")), torch.randn(4, 3, side, side)
    p, h = net.layout.unflatten(theta), x
    for i in range(5):
        w, b = p[f"convs.{i}.conv.weight"], p[f"convs.{i}.conv.bias"]
        h = F.relu(F.conv2d(h, w, b, padding=w.shape[-1] // 2, stride=stride if i == 0 else 1))
        h = F.max_pool2d(h, 2) if i in (0, 1, 4) else h
    assert h.shape[2:] == (4, 4)
    assert torch.allclose(net.features(theta, x), h.flatten(1), atol=1e-5)


def test_28_px_are_padded_to_32():
    net, padded = build(28, 1, width=2), build(32, 1, width=2)
    theta, x = net.init(rng.generator(0, "theta")), torch.randn(4, 1, 28, 28)
    assert torch.allclose(net(theta, x), padded(theta, F.pad(x, (2, 2, 2, 2))), atol=1e-5)


def test_smaller_images_are_refused():
    with pytest.raises(RecipeError, match="'alexnet'.*at least 8x8 pixels, these are 7x7"):
        build(7)
