"""EQ-T of Karras et al. 2021, appendix E: how closely an image of a shifted input is the shifted image, in dB."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

LANCZOS = 3


def eq_t(image_of: Callable[[Tensor], Tensor], resolution: int, fractional: bool, shifts: int = 8) -> float:
    """dB of signal range over error, over random shifts of up to an eighth of the image (equations 12 to 14).

    `image_of(t)` gives images (n, c, h, w) of range 2 whose content is moved by t = (x, y), in images.
    """
    g = torch.Generator().manual_seed(0)
    still = image_of(torch.zeros(2, dtype=torch.float64))
    error, count = 0.0, 0
    for _ in range(shifts):
        t = (2 * torch.rand(2, generator=g, dtype=torch.float64) - 1) * resolution / 8  # in pixels
        t = t if fractional else t.round()
        expected, valid = moved(still, t, fractional)
        difference = (image_of(t / resolution) - expected)[:, :, valid]
        error, count = error + difference.square().sum().item(), count + difference.numel()
    return 10 * math.log10(4 / max(error / count, 1e-30))


def moved(x: Tensor, t: Tensor, fractional: bool) -> tuple[Tensor, Tensor]:
    """x (n, c, h, w) moved by t = (x, y) pixels, and the mask (h, w) of pixels that only use pixels of x."""
    columns, valid_x = shift_matrix(x.shape[3], float(t[0]), fractional)
    rows, valid_y = shift_matrix(x.shape[2], float(t[1]), fractional)
    return rows.to(x) @ x @ columns.to(x).T, valid_y[:, None] & valid_x


def shift_matrix(side: int, t: float, fractional: bool) -> tuple[Tensor, Tensor]:
    """(side, side) that moves a row of samples by t, a Lanczos-3 filter if fractional; which samples are complete."""
    distance = torch.arange(side)[:, None] - torch.arange(side) - t  # from where the content of a sample moves to
    if not fractional:
        return (distance == 0).double(), (distance == 0).any(1)
    weights = torch.sinc(distance) * torch.sinc(distance / LANCZOS) * (distance.abs() < LANCZOS)
    position = torch.arange(side) - t
    valid = (position.floor() - LANCZOS + 1 >= 0) & (position.floor() + LANCZOS < side)
    return weights / weights.sum(1, keepdim=True).clamp(min=0.5), valid
