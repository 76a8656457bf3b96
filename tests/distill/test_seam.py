"""Seams as numbers: by hand on a small picture, and how cuts, lines and blurs look."""

import pytest
import torch
from support.tori import torus

from distill import seam as seams
from distill.errors import DataError
from distill.seam import Seam, look, seam


def test_the_ratios_by_hand():
    row = torch.tensor([0.0, 1, 3, 4])
    image = (row + torch.tensor([0.0, 1, 3, 4])[:, None])[None]
    found = seam(image)
    # steps 1, 2, 1 inside and -4 across the edge; bends 1, -1 inside, -5 and 5 at the edge
    assert found.seam_x == pytest.approx(4 / (4 / 3)) and found.seam_gradient_x == pytest.approx(5)
    assert (found.seam_y, found.seam_gradient_y) == pytest.approx((found.seam_x, found.seam_gradient_x))


@pytest.mark.parametrize("smooth", [0.5, 1, 1.5])
def test_a_torus_is_seamless_and_a_piece_of_it_is_a_line(smooth):
    x = torus(192, 192, smooth)
    assert seam(x).seamless
    cut = seam(x[:, :150])
    assert (cut.x, cut.y, cut.seamless) == ("seamless", "line", False)


def test_a_blurred_seam_is_a_stripe_that_values_alone_may_not_show():
    x = torus(192, 192, 0.5)
    x[:, :, :2] = x[:, :, :2].mean(2, keepdim=True)
    x[:, :, -2:] = x[:, :, -2:].mean(2, keepdim=True)
    blurred = seam(x)
    assert blurred.x == "stripe" and blurred.seam_gradient_x < 0.8 and blurred.y == "seamless"


@pytest.mark.parametrize(
    "values, gradient, expected",
    [(1.0, 1.0, "seamless"), (0.8, 1.2, "seamless"), (1.21, 1, "line"), (1, 1.21, "line"), (0.79, 1, "stripe"),
     (1, 0.79, "stripe"), (1.3, 0.7, "line")],
)  # fmt: skip
def test_how_an_edge_looks(values, gradient, expected):
    assert look(values, gradient) == expected
    assert Seam(values, 1, gradient, 1).x == expected and Seam(1, values, 1, gradient).y == expected


def test_parts_of_a_large_picture_are_measured_as_the_whole(monkeypatch):
    x = torus(50, 70)
    whole = seam(x)
    monkeypatch.setattr(seams, "ROWS", 7)
    assert seam(x).as_dict() == pytest.approx(whole.as_dict())


@pytest.mark.parametrize("shape", [(3, 3, 9), (3, 9, 3), (9, 9)])
def test_what_is_too_small_is_refused(shape):
    with pytest.raises(DataError, match="4x4 pixels or more"):
        seam(torch.rand(shape))


@pytest.mark.parametrize(
    "x", [torch.full((1, 8, 8), 0.5), torch.rand(1, 8, 1).expand(1, 8, 8), torch.arange(8.0).expand(1, 8, 8)]
)
def test_what_has_nothing_to_compare_with_is_refused(x):
    with pytest.raises(DataError, match="one colour, or an even ramp"):
        seam(x)
