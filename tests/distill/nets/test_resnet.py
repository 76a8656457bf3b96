"""ResNet-18: the sizes that are known, what it computes, what it refuses."""

import pytest
import torch
import torch.nn.functional as F

from distill import nets, recipe, rng
from distill.errors import RecipeError


def build(side=32, channels=3, classes=10, **settings):
    return nets.build(recipe.ResNet(**settings), (channels, side, side), classes)


def by_hand(stem: int, classes: int, pixels: int = 1) -> int:
    """Layer by layer: k*k*in*out for each convolution, two numbers per channel for each norm."""
    stages = 2 * (2 * 9 * 64 * 64 + 2 * 128)
    for a, b in ((64, 128), (128, 256), (256, 512)):
        stages += 9 * a * b + 9 * b * b + a * b + 3 * 2 * b  # the block that halves, with its 1x1 shortcut
        stages += 2 * 9 * b * b + 2 * 2 * b
    return stem * 64 + 128 + stages + 512 * pixels * classes + classes


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_size_at_32_px_is_the_well_known_one(norm):
    assert build(norm=norm).layout.size == by_hand(stem=27, classes=10) == 11173962


def test_size_at_128_px_is_that_of_imagenets_with_ten_classes():
    """The ResNet-18 of ImageNet has 11,689,512 parameters with 1,000 classes."""
    assert build(128, classes=1000).layout.size == by_hand(stem=147, classes=1000) == 11689512
    assert build(128).layout.size == 11181642
    assert build(64).layout.size == 11173962


def test_the_avgpool_form_flattens_a_map_of_four_by_four():
    for side, stem in ((32, 27), (64, 27), (128, 147)):
        assert build(side, shortcut="avgpool").layout.size == by_hand(stem, 10, pixels=16)
    assert build(28, 1, shortcut="avgpool").layout.size == by_hand(9, 10, pixels=9)


def test_strides_and_shortcuts_are_those_of_the_paper():
    """The whole of a narrow one, written out with PyTorch's functions."""
    net = build(16, width=2, classes=3, norm="batch")
    theta, x = net.init(rng.generator(0, "theta")), torch.randn(4, 3, 16, 16)
    p = net.layout.unflatten(theta)

    def conv(h, name, stride=1):
        w = p[f"{name}.conv.weight"]
        h = F.conv2d(h, w, stride=stride, padding=w.shape[-1] // 2)
        return F.batch_norm(h, None, None, p[f"{name}.norm.weight"], p[f"{name}.norm.bias"], training=True)

    h = F.relu(conv(x, "stem.conv"))
    for i in range(8):
        stride = 2 if i in (2, 4, 6) else 1
        out = conv(F.relu(conv(h, f"blocks.{i}.first", stride)), f"blocks.{i}.second")
        h = F.relu(out + (conv(h, f"blocks.{i}.shortcut", stride) if stride == 2 else h))
    assert h.shape[2:] == (2, 2)
    assert torch.allclose(net.features(theta, x), h.mean((2, 3)), atol=1e-4)


def test_the_avgpool_form_pools_where_the_other_strides():
    """As MTT's code: in a block after its first norm and ReLU, in the shortcut before its norm; then it flattens."""
    net = build(16, width=2, classes=3, norm="batch", shortcut="avgpool")
    theta, x = net.init(rng.generator(0, "theta")), torch.randn(4, 3, 16, 16)
    p = net.layout.unflatten(theta)

    def conv(h, name):
        w = p[f"{name}.conv.weight"]
        return F.conv2d(h, w, padding=w.shape[-1] // 2)

    def norm(h, name):
        return F.batch_norm(h, None, None, p[f"{name}.norm.weight"], p[f"{name}.norm.bias"], training=True)

    h = F.relu(norm(conv(x, "stem.conv"), "stem.conv"))
    for i in range(8):
        halves, name = i in (2, 4, 6), f"blocks.{i}"
        out = F.relu(norm(conv(h, f"{name}.first"), f"{name}.first"))
        out = norm(conv(F.avg_pool2d(out, 2) if halves else out, f"{name}.second"), f"{name}.second")
        side = norm(F.avg_pool2d(conv(h, f"{name}.shortcut"), 2), f"{name}.shortcut") if halves else h
        h = F.relu(out + side)
    assert torch.allclose(net.features(theta, x), h.flatten(1), atol=1e-4)


@pytest.mark.parametrize(
    ("side", "settings", "least"),
    [(8, {}, 9), (15, {"shortcut": "avgpool"}, 16), (7, {"shortcut": "avgpool", "norm": "batch"}, 8)],
)
def test_images_that_end_as_one_pixel_are_refused(side, settings, least):
    with pytest.raises(RecipeError, match=f"resnet.*at least {least}x{least} pixels, these are {side}x{side}"):
        build(side, **settings)
    theta = build(least, width=1, **settings).init(rng.generator(0, "theta"))
    assert build(least, width=1, **settings)(theta, torch.randn(2, 3, least, least)).std() > 0


def test_its_label_names_the_form():
    assert recipe.ResNet().label == "resnet18-w64-instance"
    assert recipe.ResNet(shortcut="avgpool", norm="batch").label == "resnet18ap-w64-batch"
