"""ConvNet: the size the papers state, what it computes, what it refuses."""

import pytest
import torch
import torch.nn.functional as F

from distill import nets, recipe, rng
from distill.errors import RecipeError


def build(shape=(3, 32, 32), classes=10, bf16=False, **settings):
    return nets.build(recipe.ConvNet(**settings), shape, classes, bf16)


@pytest.mark.parametrize(
    "side, classes, depth, parameters",
    [(32, 10, 3, 320_010), (32, 100, 3, 504_420), (64, 200, 4, 857_160), (128, 10, 5, 615_690)],
    ids=["cifar10", "cifar100", "tiny-imagenet", "imagenet-128"],
)
def test_sizes_are_those_of_the_papers(side, classes, depth, parameters):
    assert build((3, side, side), classes, depth=depth).layout.size == parameters


def test_forward_is_conv_norm_relu_pool_then_linear():
    net = build((1, 8, 8), 3, depth=2, width=4)
    theta, x = net.init(rng.generator(0, "theta")), torch.randn(5, 1, 8, 8)
    p = net.layout.unflatten(theta)
    h = x
    for i in range(2):
        h = F.conv2d(h, p[f"convs.{i}.weight"], p[f"convs.{i}.bias"], padding=1)
        h = F.avg_pool2d(F.relu(F.group_norm(h, 4, p[f"norms.{i}.weight"], p[f"norms.{i}.bias"])), 2)
    features = h.flatten(1)
    assert torch.allclose(net.features(theta, x), features, atol=1e-5)
    logits = features @ p["classifier.weight"].T + p["classifier.bias"]
    assert torch.allclose(net(theta, x), logits, atol=1e-5)


def test_channels_last_images_give_the_same_features():
    net = build((3, 8, 8), 3, depth=2, width=4)
    theta, x = net.init(rng.generator(0, "theta")), torch.randn(5, 3, 8, 8)
    packed = x.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(net.features(theta, x), net.features(theta, packed), atol=1e-6)


def test_more_halvings_than_pixels_are_refused():
    with pytest.raises(RecipeError, match=r"network\.depth: 4 halvings leave nothing of 8x8"):
        build((1, 8, 8), depth=4)


def test_bfloat16_logits_are_near_and_of_the_dtype_of_theta():
    theta, x = build(width=8).init(rng.generator(0, "theta")), torch.randn(4, 3, 32, 32)
    exact, short = (build(width=8, bf16=b)(theta, x) for b in (False, True))
    assert short.dtype == torch.float32
    assert 0 < (exact - short).abs().max() < 0.05 * exact.abs().max()
