"""Norms and networks take another form inside torch.compile: the same values and gradients, in float64, by inductor."""

import pytest
import torch
from torch.func import grad

from distill import nets, recipe, rng
from distill.nets.norm import KINDS, Norm


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "none"])
def test_a_compiled_norm_is_the_eager_one(kind):
    g = torch.Generator().manual_seed(0)
    norm = Norm(kind, 8).double()
    norm.weight.data, norm.bias.data = (torch.randn(8, generator=g, dtype=torch.float64) for _ in range(2))
    x = 3 * torch.randn(5, 8, 6, 6, generator=g, dtype=torch.float64) + 2
    slope = grad(lambda x: (norm(x) ** 3).sum())
    assert torch.allclose(torch.compile(norm, fullgraph=True)(x), norm(x), rtol=1e-11, atol=1e-11)
    assert torch.allclose(torch.compile(slope, fullgraph=True)(x), slope(x), rtol=1e-9, atol=1e-9)


def test_a_compiled_convnet_is_the_eager_one_on_images_of_odd_sides():
    network = nets.build(recipe.ConvNet(depth=2, width=4), (3, 11, 10), 5)
    theta = network.init(rng.generator(0, "theta")).double()
    x = torch.randn(3, 3, 11, 10, generator=rng.generator(0, "x"), dtype=torch.float64)
    slope = grad(lambda theta: network(theta, x).square().sum())
    assert torch.allclose(torch.compile(network.__call__, fullgraph=True)(theta, x), network(theta, x), rtol=1e-10)
    assert torch.allclose(torch.compile(slope, fullgraph=True)(theta), slope(theta), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", ["instance", "batch"])
def test_one_pass_over_maps_far_from_zero_is_as_accurate_as_two(kind):
    norm = Norm(kind, 4).float()
    x = 1000 + torch.randn(3, 4, 8, 8, generator=rng.generator(0, "far"), dtype=torch.float32)
    exact = Norm(kind, 4).double()(x.double())
    assert torch.allclose(torch.compile(norm, fullgraph=True)(x).double(), exact, atol=2e-3)
    flat = torch.full_like(x, 1000)
    assert torch.compile(norm, fullgraph=True)(flat).abs().max() < 2e-3
