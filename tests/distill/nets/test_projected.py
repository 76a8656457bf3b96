"""The projected discriminator: spectral norm, mixing that is never trained, standardised maps, conditioning."""

import pytest
import torch
import torch.nn.functional as F

from distill import rng
from distill.nets.projected import LAST, Head, Projected, of_norm_one

SHAPES = [(3, 16, 16), (5, 8, 8), (6, 1, 1)]


def made(shapes=SHAPES, channels=4, classes=3, seed=0) -> Projected:
    return Projected(shapes, channels, classes).initialise(rng.generator(seed, "d")).double()


def maps(n=2, shapes=SHAPES, seed=1):
    return [torch.randn(n, *shape, generator=rng.generator(seed, "m", i)).double() for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("shape", [(4, 4, 3, 3), (2, 30), (30, 2), (1, 5), (7, 3, 1, 1)])
def test_a_weight_is_divided_by_its_largest_singular_value_and_so_is_its_gradient(shape):
    weight = torch.randn(shape, generator=rng.generator(0, "w"), dtype=torch.float64).requires_grad_()
    towards = torch.randn(shape, generator=rng.generator(1, "w"), dtype=torch.float64)
    plain = weight / torch.linalg.svdvals(weight.flatten(1))[0]
    assert torch.allclose(of_norm_one(weight), plain, rtol=1e-10)
    (slope,) = torch.autograd.grad((of_norm_one(weight) * towards).sum(), weight)
    (expected,) = torch.autograd.grad((plain * towards).sum(), weight)
    assert torch.allclose(slope, expected, rtol=1e-8, atol=1e-12)


def test_logits_are_those_of_a_plain_computation():
    d, (image, small) = made(SHAPES[:2]), maps(shapes=SHAPES[:2])
    d.standardise(maps(20, SHAPES[:2], seed=5))
    y = torch.tensor([[1.0, 0, 0], [0.25, 0.75, 0]]).double()

    def head(i, x):
        for weight, bias in zip(d.heads[i].weights, d.heads[i].biases, strict=True):
            weight = weight / torch.linalg.matrix_norm(weight.flatten(1), 2)
            x = F.leaky_relu(F.conv2d(x, weight, bias, 2, 1), 0.2)
        real, classes = (w / torch.linalg.matrix_norm(w, 2) for w in (d.heads[i].real, d.heads[i].classes))
        return (x * (real + y @ classes)[:, :, None, None]).sum(1).flatten(1)

    low = F.conv2d((small - d.mean1) / d.deviation1, d.across1)
    low = F.conv2d(low, d.mixing1, padding=1)
    high = F.conv2d((image - d.mean0) / d.deviation0, d.across0)
    high = (high + F.interpolate(low, (16, 16), mode="bilinear")) / 2**0.5
    high = F.conv2d(high, d.mixing0, padding=1)
    assert [len(h.strides) for h in d.heads] == [2, 1]
    for logits, expected in zip(d([image, small], y), (head(0, high), head(1, low)), strict=True):
        assert logits.shape == (2, LAST**2) and torch.allclose(logits, expected, rtol=1e-9)


def test_large_maps_see_small_ones_and_not_the_other_way_round():
    d, m, y = made(), maps(), torch.eye(3).double()[:2]
    before = d(m, y)
    assert [logits.shape[1] for logits in before] == [16, 16, 1]
    after = d([m[0], m[1] + 1, m[2]], y)
    same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert same == [False, False, True]
    other = d(m, y.flip(0))
    assert not any(torch.allclose(a, b) for a, b in zip(before, other, strict=True)), "they depend on the class"


def test_real_maps_are_standardised_per_channel():
    real = [3 + 7 * m for m in maps(50)]
    d = made().standardise(real)
    for i, m in enumerate(real):
        x = (m - getattr(d, f"mean{i}")) / getattr(d, f"deviation{i}")
        assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(1).double(), atol=1e-9)
        assert torch.allclose(x.std((0, 2, 3), correction=0), torch.ones(1).double(), atol=1e-6)


def test_only_heads_are_trained_and_stored_and_mixing_comes_back_from_the_seed():
    one, again, other = made(), made(), made(seed=1)
    assert all(name.startswith("heads.") for name in one.state_dict())
    assert torch.equal(one.mixing0, again.mixing0) and not torch.equal(one.mixing0, other.mixing0)
    assert all(p.abs().sum() > 0 for name, p in one.named_parameters() if "biases" not in name)


def test_values_are_about_what_a_pass_keeps():
    from distill.cost.memory import PeakMemory

    d, m = made(channels=16).float(), [m.float() for m in maps(64)]
    with PeakMemory() as memory:
        kept = d(m, torch.eye(3)[torch.arange(64) % 3])
    assert kept and 0.4 * memory.peak < 4 * 64 * d.values < 2.5 * memory.peak


def test_a_head_ends_at_no_more_than_four_pixels():
    assert [Head(2, side, 3).strides for side in (1, 4, 5, 8, 9, 32)] == [[1], [1], [2], [2], [2, 2], [2, 2, 2]]
