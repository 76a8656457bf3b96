"""A colour for each class, similar for similar classes: the distances between classes in three dimensions."""

import kornia
import numpy as np
import torch

REACH = 55.0  # of a* and b*: most screens can show them at these lightnesses
DARKEST, LIGHTEST = 52.0, 84.0  # L*


def colours(distances: np.ndarray) -> np.ndarray:
    """RGB colours (c, 3) uint8 of classes at these distances (c, c).

    The first two axes of their classical scaling become a* and b*, the third the lightness of CIELAB, in which
    distances are about as large as they look.
    """
    x = _spread(scaled(distances, 3))
    lightness = DARKEST + (LIGHTEST - DARKEST) * (x[:, 2] + 1) / 2
    lab = np.stack([lightness, REACH * x[:, 0], REACH * x[:, 1]], 1)
    rgb = kornia.color.lab_to_rgb(torch.from_numpy(lab)[:, :, None, None])[:, :, 0, 0]
    return (rgb.numpy() * 255).round().astype(np.uint8)


def scaled(distances: np.ndarray, dimensions: int) -> np.ndarray:
    """Points (c, dimensions) whose distances are near `distances` (c, c): classical scaling (Torgerson 1952)."""
    squares = distances**2
    centred = squares - squares.mean(0) - squares.mean(1)[:, None] + squares.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    values, vectors = values[::-1][:dimensions].clip(min=0), vectors[:, ::-1][:, :dimensions]
    points = vectors * np.sqrt(values)
    return np.pad(points, ((0, 0), (0, dimensions - points.shape[1])))


def ink(colour: np.ndarray) -> tuple[int, int, int]:
    """Black or white, whichever is easier to read on an RGB colour (WCAG 2 relative luminance)."""
    rgb = torch.from_numpy(np.asarray(colour) / 255)[:, None, None]
    luminance = kornia.color.rgb_to_linear_rgb(rgb).flatten().numpy() @ (0.2126, 0.7152, 0.0722)
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else (255, 255, 255)


def _spread(points: np.ndarray) -> np.ndarray:
    """Each axis within -1 .. 1, squeezed at its ends so that one outlier does not make the rest grey."""
    deviation = points.std(0)
    return np.tanh(points / np.where(deviation > 0, deviation, 1))
