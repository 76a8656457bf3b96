"""Periodic Lanczos against Pillow's on the middle of a wrapped copy, and the seam that it must not open."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.tori import torus

from distill.lanczos import MEAN, resize, weights
from distill.seam import seam

SIZES = [((20, 30), (40, 90)), ((20, 30), (47, 101)), ((40, 36), (13, 17)), ((21, 5), (64, 64)), ((12, 12), (12, 12))]


def pillow(x: torch.Tensor, size: tuple[int, int], box=None) -> torch.Tensor:
    """Pillow's LANCZOS in floating point of one channel (H, W)."""
    image = Image.fromarray(x.numpy())
    return torch.from_numpy(np.array(image.resize(size[::-1], Image.Resampling.LANCZOS, box=box)))


@pytest.mark.parametrize("size, target", SIZES)
def test_a_tile_is_the_middle_of_pillow_s_resize_of_many(size, target):
    x = torus(*size, 0.5, channels=1)
    many = pillow(x[0].repeat(7, 7), (7 * target[0], 7 * target[1]))
    middle = many[3 * target[0] : 4 * target[0], 3 * target[1] : 4 * target[1]]
    assert torch.allclose(resize(x, target)[0], middle, atol=2e-5)


@pytest.mark.parametrize("size, target", SIZES)
def test_edges_that_do_not_wrap_are_as_pillow_s(size, target):
    x = torus(*size, 0.5, channels=1)
    assert torch.allclose(resize(x, target, (False, False))[0], pillow(x[0], target), atol=2e-5)
    band = pillow(x[0].repeat(1, 7), (target[0], 7 * target[1]))[:, 3 * target[1] : 4 * target[1]]
    assert torch.allclose(resize(x, target, (False, True))[0], band, atol=2e-5)


@pytest.mark.parametrize("target", [(200, 333), (1024, 1024), (512, 256)])
def test_the_seam_stays_closed_where_an_ordinary_resize_opens_it(target):
    x = torus(128, 128)
    assert seam(x).seamless
    assert seam(resize(x, target, shift=MEAN)).seamless
    assert not seam(resize(x, target, (False, False))).seamless


@pytest.mark.parametrize("target", [(50, 41), (100, 64), (127, 30)])
def test_the_seam_stays_closed_in_a_smaller_picture(target):
    assert seam(resize(torus(192, 192), target, shift=MEAN)).seamless


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_an_enlarged_tile_starts_where_the_picture_changes_as_on_average(smooth):
    """Between two of its pixels a picture is steeper and less bent than elsewhere, which looks like an open seam."""
    tori = [torus(128, 128, smooth, seed=k) for k in range(4)]
    plain, shifted = (
        torch.tensor([list(seam(resize(x, (512, 512), shift=s)).as_dict().values()) for x in tori]).mean(0)
        for s in (0.0, MEAN)
    )
    assert (plain[:2] > 1.08).all() and (plain[2:] < 0.85).all()
    assert ((shifted - 1).abs() < 0.04).all()


def test_a_shift_of_whole_pixels_rolls_the_tile():
    x = torus(24, 20)
    assert torch.allclose(resize(x, (60, 50), shift=3), resize(x.roll((-3, -3), (1, 2)), (60, 50)), atol=1e-5)
    border = resize(x, (60, 50), (False, True), shift=3)
    assert torch.allclose(border, resize(x.roll(-3, 2), (60, 50), (False, True)), atol=1e-5)


def test_a_shifted_tile_resizes_to_a_shifted_picture():
    x = torus(24, 24)
    assert torch.allclose(
        resize(x.roll((5, 7), (1, 2)), (72, 72)), resize(x, (72, 72)).roll((15, 21), (1, 2)), atol=1e-5
    )


@pytest.mark.parametrize("n, k", [(1, 5), (2, 9), (5, 1), (64, 7)])
@pytest.mark.parametrize("wrap", [True, False])
def test_a_constant_stays_constant(n, k, wrap):
    assert torch.allclose(weights(n, k, wrap).sum(1), torch.ones(k, dtype=torch.float64))
    assert weights(n, k, wrap).shape == (k, n)
