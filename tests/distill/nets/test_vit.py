"""The vision transformer against PyTorch's own encoder layer, and its size counted by hand."""

import pytest
import torch
from torch import nn

from distill import nets, recipe, rng
from distill.errors import RecipeError


def build(side=32, channels=3, classes=10, **settings):
    return nets.build(recipe.ViT(**settings), (channels, side, side), classes)


@pytest.mark.parametrize(("side", "patch"), [(32, 4), (64, 8), (128, 16)])
def test_size_by_hand(side, patch):
    d, tokens = 192, 64
    block = (3 * d * d + 3 * d) + (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 2 * 2 * d
    whole = (3 * patch * patch * d + d) + tokens * d + 6 * block + 2 * d + (10 * d + 10)
    assert build(side).layout.size == whole


def test_a_block_is_pytorchs_pre_norm_encoder_layer():
    net = build(8, classes=3, patch=4, dim=8, depth=2, heads=2)
    theta, x = net.init(rng.generator(0, "theta")), torch.randn(5, 3, 8, 8)
    p = net.layout.unflatten(theta)
    h = nn.functional.conv2d(x, p["patches.weight"], p["patches.bias"], stride=4)  # (n, d, 2, 2)
    h = torch.stack([h[:, :, i, j] for i in range(2) for j in range(2)], 1) + p["position.table"]
    for i in range(2):
        layer = nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)
        ours = {name.removeprefix(f"blocks.{i}."): v for name, v in p.items() if name.startswith(f"blocks.{i}.")}
        layer.load_state_dict({theirs: ours[name] for theirs, name in LAYER.items()})
        h = layer(h)
    h = nn.functional.layer_norm(h, (8,), p["norm.weight"], p["norm.bias"]).mean(1)
    assert torch.allclose(net.features(theta, x), h, atol=1e-5)


LAYER = {
    "self_attn.in_proj_weight": "attention.inputs.weight",
    "self_attn.in_proj_bias": "attention.inputs.bias",
    "self_attn.out_proj.weight": "attention.output.weight",
    "self_attn.out_proj.bias": "attention.output.bias",
    "linear1.weight": "wide.weight",
    "linear1.bias": "wide.bias",
    "linear2.weight": "narrow.weight",
    "linear2.bias": "narrow.bias",
    "norm1.weight": "first.weight",
    "norm1.bias": "first.bias",
    "norm2.weight": "second.weight",
    "norm2.bias": "second.bias",
}


def test_positions_are_drawn_small_and_matter():
    net = build(8, classes=3, patch=1, dim=32, depth=1, heads=2)
    theta = net.init(rng.generator(0, "theta"))
    assert net.layout.unflatten(theta)["position.table"].std() == pytest.approx(0.02, rel=0.05)
    x = torch.randn(1, 3, 8, 8)
    assert not torch.allclose(net(theta, x), net(theta, x.flip(3)), atol=1e-7)


@pytest.mark.parametrize(
    ("side", "settings", "named"),
    [(32, {"patch": 5}, "network.patch = 5 does not divide 32x32"), (32, {"heads": 5}, "network.dim = 192")],
)
def test_what_does_not_divide_is_refused(side, settings, named):
    with pytest.raises(RecipeError, match=named):
        build(side, **settings)
