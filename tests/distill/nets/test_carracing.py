"""The CarRacing driver: its size counted by hand, and what it computes."""

import torch
import torch.nn.functional as F

from distill import nets, recipe, rng


def test_size_for_six_actions_at_32_px():
    convs = (27 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 64 + 64)
    linear = (64 * 4 * 4 * 128 + 128) + (128 * 128 + 128) + (128 * 6 + 6)
    assert nets.build(recipe.CarRacing(), (3, 32, 32), 6).layout.size == convs + linear == 204806


def test_three_convolutions_and_three_linear_layers():
    net = nets.build(recipe.CarRacing(width=2, hidden=5), (3, 20, 20), 6)
    theta, x = net.init(rng.generator(0, "theta")), torch.randn(4, 3, 20, 20)
    p, h = net.layout.unflatten(theta), x
    for i in range(3):
        h = F.relu(F.conv2d(h, p[f"convs.{i}.weight"], p[f"convs.{i}.bias"], stride=2, padding=1))
    h = h.flatten(1)
    for i in range(2):
        h = F.relu(F.linear(h, p[f"hidden.{i}.weight"], p[f"hidden.{i}.bias"]))
    assert torch.allclose(net.features(theta, x), h, atol=1e-6)
    assert net(theta, x).shape == (4, 6)
