"""A set class by class: which pixels stand for a class, from the stored images in [0, 1] of any step.

    for k, images in enumerate(of_classes(stored, shown)): ...

The form of the set decides (distill/published/forms.py): its training images, its textures, or, of an image that
several classes share, the windows that are most of the class.
"""

import torch
from torch import Tensor

from distill.published import Images, Sampler, Stored, Windows

MOST_IMAGES = 100
"""Of a class on a page."""


def owners(stored: Windows) -> list[int | None]:
    """The class of each of the larger images; None for one that several classes share, or no window."""
    labels, sources = stored.y.argmax(1), stored.corners[:, 0]
    soft = ((stored.y > 0).sum(1) > 1).tolist()
    found: list[set] = [set() for _ in stored.x]
    for source, label, mixed in zip(sources.tolist(), labels.tolist(), soft, strict=True):
        found[source] |= {label, None} if mixed else {label}
    return [next(iter(classes)) if len(classes) == 1 else None for classes in found]


def shared(stored: Stored) -> list[int]:
    """The numbers of the larger images that several classes share: posters."""
    return [i for i, k in enumerate(owners(stored)) if k is None] if isinstance(stored, Windows) else []


def wraps(stored: Stored) -> tuple[bool, bool]:
    """Whether the picture of a class continues at its opposite edge: bottom to top, right to left."""
    return stored.wraps if isinstance(stored, Windows) and not shared(stored) else (False, False)


def of_classes(stored: Stored, shown: Tensor) -> list[Tensor]:
    """For each class its images (n, c, h, w) in [0, 1], n >= 1 unless the set has none of it."""
    if isinstance(stored, Windows):
        whose = owners(stored)
        if None not in whose:
            at = torch.tensor(whose)
            return [shown[at == k][:MOST_IMAGES] for k in range(stored.y.shape[1])]
        return _surest_windows(stored, shown)
    assert isinstance(stored, Images | Sampler)
    labels = stored.y.cpu()
    return _most_typical(labels, stored.pixels(shown), MOST_IMAGES)


def _most_typical(y: Tensor, pixels: Tensor, most: int) -> list[Tensor]:
    """For each class the images of which it is the most probable class, at most `most`, the surest first, then in
    order; or, of a class that no image is most of, the one image that is most of it."""
    best, found = y.argmax(1), []
    for k in range(y.shape[1]):
        rows = (best == k).nonzero().flatten()
        if not len(rows):
            rows = y[:, k].argmax()[None] if y[:, k].max() > 0 else rows
        order = y[rows, k].argsort(descending=True, stable=True)[:most]
        found.append(pixels[rows[order]])
    return found


def _surest_windows(stored: Windows, shown: Tensor) -> list[Tensor]:
    """For each class the window that is most of it; of several that are so equally, the one in their midst."""
    pixels, y = stored.pixels(shown), stored.y.cpu()
    found = []
    for k in range(y.shape[1]):
        best = y[:, k].max()
        rows = (y[:, k] >= best - 1e-4).nonzero().flatten() if best > 0 else torch.empty(0, dtype=torch.int64)
        if len(rows):
            corners = stored.corners[rows].cpu()
            rows = rows[corners[:, 0] == corners[0, 0]]
            places = stored.corners[rows, 1:].cpu().float()
            rows = rows[(places - places.mean(0)).square().sum(1).argmin()][None]
        found.append(pixels[rows])
    return found


def first_of_each(classes: list[Tensor], most: int) -> Tensor | None:
    """The first image of each class, at most `most` classes, (n, c, h, w); None if they have none."""
    firsts = [images[0] for images in classes if len(images)][:most]
    return torch.stack(firsts) if firsts else None


def samples(sampler: Sampler, to_pixels, seeds: int, truncations: tuple[float, ...], at_once: int = 64) -> Tensor:
    """Images (classes, truncations, seeds, c, h, w) in [0, 1] of a sampler; a column has the same random numbers."""
    rows = []
    for labels in torch.arange(sampler.classes).split(at_once):
        grid = [
            [to_pixels(sampler.fresh(labels, torch.Generator().manual_seed(s), t)) for s in range(seeds)]
            for t in truncations
        ]
        rows.append(torch.stack([torch.stack(line) for line in grid]).permute(2, 0, 1, 3, 4, 5))
    return torch.cat(rows)
