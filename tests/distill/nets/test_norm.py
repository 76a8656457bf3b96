"""Norm against PyTorch's own normalisation kernels, in float64."""

import pytest
import torch
import torch.nn.functional as F

from distill.nets.norm import KINDS, Norm

REFERENCE = {
    "instance": lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
    "group": lambda x, w, b: F.group_norm(x, 4, w, b),
    "layer": lambda x, w, b: F.group_norm(x, 1, w, b),
    "batch": lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
    "none": lambda x, w, b: x,
}


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_kernel_of_torch(kind):
    x = 3 * torch.randn(5, 8, 6, 6, dtype=torch.float64) + 2
    norm = Norm(kind, 8).double()
    w, b = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    if kind != "none":
        norm.weight.data, norm.bias.data = w, b
    assert torch.allclose(norm(x), REFERENCE[kind](x, w, b), rtol=1e-12, atol=1e-12)


def test_group_norm_of_channels_that_do_not_divide_is_one_group():
    x = torch.randn(5, 6, 4, 4, dtype=torch.float64)
    assert torch.allclose(Norm("group", 6).double()(x), F.group_norm(x, 1), rtol=1e-12)


def test_a_constant_image_gives_zeros_not_nan():
    x = torch.full((2, 4, 3, 3), 7.0, requires_grad=True)
    out = Norm("instance", 4)(x)
    out.square().sum().backward()
    assert out.eq(0).all() and torch.isfinite(x.grad).all()
