"""Eight bits: levels by hand, values that are stored exactly, and a gradient that passes through the rounding."""

import pytest
import torch

from distill.levels import clamp, from_levels, rounded, spread_of, to_levels

SPREAD = torch.tensor([[-1.0, 0.0], [0.5, 2.0]])  # two channels: -1, -0.5, ..., 126.5 and 0, 2, ..., 510


def of(first: list[float], second: list[float]) -> torch.Tensor:
    """One image of a single row and two channels."""
    return torch.tensor([first, second])[None, :, None]


def test_levels_are_the_nearest_and_end_at_the_first_and_the_last():
    x = of([-1.0, -0.3, 126.5, 900.0], [0.9, 1.1, -4.0, 509.2])
    assert torch.equal(to_levels(x, SPREAD), of([0, 1, 255, 255], [0, 1, 0, 255]).to(torch.uint8))
    assert torch.equal(rounded(x, SPREAD), of([-1.0, -0.5, 126.5, 126.5], [0.0, 2.0, 0.0, 510.0]))
    assert torch.equal(clamp(x, SPREAD), of([-1.0, -0.3, 126.5, 126.5], [0.9, 1.1, 0.0, 509.2]))


def test_a_spread_goes_from_the_lowest_to_the_highest_value_of_each_channel():
    spread = spread_of(torch.cat([of([1.0, 3.0], [5.0, 5.0]), of([2.0, -9.75], [5.0, 5.0])]))
    assert torch.equal(spread[:, 0], torch.tensor([-9.75, 12.75 / 255])), "12.75 over 255 steps"
    assert torch.equal(spread[:, 1], torch.tensor([5.0, 1.0])), "a constant channel has no range to divide"


def test_what_is_stored_is_what_was_rounded_bit_for_bit():
    x = 3 * torch.randn(50, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    spread = spread_of(x[:20]) * torch.tensor([[1.0, 0.7, 1.3]])
    values = rounded(x, spread)
    levels = to_levels(values, spread)
    assert torch.equal(from_levels(levels, spread), values) and torch.equal(to_levels(x, spread), levels)
    assert (values - clamp(x, spread)).abs().max() <= 0.501 * spread[1].max()


def test_the_gradient_is_that_of_the_function_at_the_rounded_values():
    x = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    spread = torch.tensor([[-2.0, -1.0], [0.3, 0.1]], dtype=torch.float64)
    loss = lambda v: (v.sin() * v.square()).sum()  # noqa: E731
    leaf, at = x.clone().requires_grad_(), rounded(x, spread).requires_grad_()
    assert not torch.equal(at, x), "the rounding moves the values"
    (through,) = torch.autograd.grad(loss(rounded(leaf, spread)), leaf)
    (there,) = torch.autograd.grad(loss(at), at)
    assert torch.equal(through, there)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_twice_changes_nothing(dtype):
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(2)).to(dtype)
    spread = spread_of(x)
    once = rounded(x, spread)
    assert torch.equal(rounded(once, spread), once) and once.dtype == dtype
