"""Windows of larger images: equal to slices, gradients of overlaps summed, edges wrapped, put together again."""

import math

import pytest
import torch
import torch.nn.functional as F

from distill.crops import cut, join, warp


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


CORNERS = torch.tensor([[0, 0, 0], [1, 2, 3], [0, 1, 1], [0, 1, 1], [1, 3, 4]])


def by_loop(sources, size):
    h, w = size
    return torch.stack([sources[m, :, top : top + h, left : left + w] for m, top, left in CORNERS.tolist()])


def test_windows_and_gradients_are_those_of_slices_in_a_loop():
    """Windows overlap, and one comes twice: their gradients add up."""
    x, pull = draw(2, 3, 7, 8).requires_grad_(), draw(5, 3, 4, 4, seed=1)
    ours, theirs = cut(x, CORNERS, (4, 4)), by_loop(x, (4, 4))
    assert torch.equal(ours, theirs)
    (g,), (h,) = torch.autograd.grad(ours, x, pull), torch.autograd.grad(theirs, x, pull)
    assert torch.allclose(g, h, rtol=0, atol=1e-14)
    assert (h[0, :, 1:5, 1:5] != 0).all() and (h[1, :, 0] == 0).all()


def test_windows_wrap_round_the_edges():
    x = draw(1, 2, 5, 6)
    tiled = x.repeat(1, 1, 2, 2)
    corners = torch.tensor([[0, 4, 5], [0, 3, 0], [0, 0, 4]])
    expected = torch.stack([tiled[0, :, top : top + 3, left : left + 3] for _, top, left in corners.tolist()])
    assert torch.equal(cut(x, corners, (3, 3)), expected)


def test_joining_windows_gives_the_mean_of_those_that_cover_a_pixel():
    windows = torch.tensor([1.0, 5.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    joined = join(windows, torch.tensor([[0, 0, 0], [0, 0, 1]]), (1, 1, 3, 3), empty=0.5)
    assert joined.tolist() == [[[[1, 3, 5], [1, 3, 5], [0.5, 0.5, 0.5]]]]


def test_a_weight_says_how_much_each_pixel_of_a_window_counts():
    windows = torch.tensor([1.0, 5.0]).view(2, 1, 1, 1).expand(2, 1, 1, 2)
    joined = join(windows, torch.tensor([[0, 0, 0], [0, 0, 1]]), (1, 1, 1, 3), torch.tensor([[1.0, 3.0]]))
    assert joined.tolist() == [[[[1, (3 * 1 + 1 * 5) / 4, 5]]]]


def test_what_was_cut_out_everywhere_joins_to_what_it_was():
    x = draw(2, 3, 7, 8)
    corners = torch.cartesian_prod(torch.arange(2), torch.arange(0, 7, 3), torch.arange(0, 8, 2))
    assert torch.allclose(join(cut(x, corners, (4, 4)), corners, x.shape), x, atol=1e-14)


def turn(degrees, n):
    a = math.radians(degrees)
    return torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]], dtype=torch.float64).expand(n, 2, 2)


def test_windows_that_are_not_turned_are_the_plain_ones():
    x = draw(2, 3, 7, 8)
    assert torch.allclose(warp(x, CORNERS, (4, 4), turn(0, 5)), cut(x, CORNERS, (4, 4)), atol=1e-14)


@pytest.mark.parametrize("degrees, scale", [(17, (1, 1)), (0, (1.2, 0.9)), (-30, (1.1, 1.3))])
def test_turned_windows_are_those_of_grid_sample(degrees, scale):
    """In a window as large as the image, with the nearest pixel beyond the edges."""
    x = draw(1, 2, 6, 6)
    matrix = turn(degrees, 1) @ torch.diag_embed(torch.tensor([scale], dtype=torch.float64))
    # grid_sample takes (x, y) where warp takes (row, column), and offsets that are fractions of half a side
    theta = F.pad(matrix.flip(1, 2), (0, 1))
    grid = F.affine_grid(theta, (1, 2, 6, 6), align_corners=True)
    expected = F.grid_sample(x, grid, padding_mode="border", align_corners=True)
    assert torch.allclose(warp(x, torch.tensor([[0, 0, 0]]), (6, 6), matrix), expected, atol=1e-12)


def test_turned_windows_of_a_cyclic_source_are_those_of_the_plane_tiled_with_it():
    x = draw(1, 2, 6, 6)
    at = torch.tensor([[0, 4, 5]])
    tiled = warp(x.repeat(1, 1, 3, 3), at + torch.tensor([[0, 6, 6]]), (4, 4), turn(25, 1))
    assert torch.allclose(warp(x, at, (4, 4), turn(25, 1), cyclic=True), tiled, atol=1e-12)


def test_gradients_of_turned_windows_are_exact():
    x = draw(1, 1, 5, 5).requires_grad_()
    torch.autograd.gradcheck(lambda x: warp(x, torch.tensor([[0, 0, 1], [0, 2, 2]]), (3, 3), turn(40, 2)), (x,))
