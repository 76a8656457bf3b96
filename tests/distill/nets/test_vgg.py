"""VGG-11: its size counted by hand, what it computes, what it refuses."""

import pytest
import torch
import torch.nn.functional as F

from distill import nets, recipe, rng
from distill.errors import RecipeError

CHANNELS = (3, 64, 128, 256, 256, 512, 512, 512, 512)


def build(side=32, channels=3, classes=10, **settings):
    return nets.build(recipe.VGG(**settings), (channels, side, side), classes)


@pytest.mark.parametrize("side", [32, 64, 128])
def test_size_is_eight_convolutions_their_norms_and_one_linear_layer(side):
    convs = sum(9 * a * b + b for a, b in zip(CHANNELS, CHANNELS[1:], strict=False))
    norms = 2 * sum(CHANNELS[1:])
    assert build(side).layout.size == convs + norms + 512 * 10 + 10 == 9231114
    assert build(side, norm="none").layout.size == 9231114 - norms


def test_pools_are_after_layers_1_2_4_6_and_8():
    net = build(32, width=2, classes=3)
    theta, x = net.init(rng.generator(0, "theta")), torch.randn(4, 3, 32, 32)
    convs = [name.removesuffix(".conv.weight") for name, _ in net.layout.entries if name.endswith("conv.weight")]
    p, h = net.layout.unflatten(theta), x
    for layer, name in enumerate(convs, 1):
        h = F.conv2d(h, p[f"{name}.conv.weight"], p[f"{name}.conv.bias"], padding=1)
        h = F.relu(F.instance_norm(h, weight=p[f"{name}.norm.weight"], bias=p[f"{name}.norm.bias"]))
        h = F.max_pool2d(h, 2) if layer in (1, 2, 4, 6, 8) else h
    assert h.shape[2:] == (1, 1)
    assert torch.allclose(net.features(theta, x), h.flatten(1), atol=1e-4)


def test_28_px_are_padded_to_32():
    net = build(28, 1, width=2, classes=3)
    padded = build(32, 1, width=2, classes=3)
    theta, x = net.init(rng.generator(0, "theta")), torch.randn(4, 1, 28, 28)
    assert torch.allclose(net(theta, x), padded(theta, F.pad(x, (2, 2, 2, 2))), atol=1e-5)


def test_smaller_images_are_refused():
    with pytest.raises(RecipeError, match="'vgg'.*at least 28x28 pixels, these are 16x16"):
        build(16)
