"""The classes of a result as cards: their pictures at the published step, at every step, sampled, and real ones."""

from dataclasses import dataclass

from torch import Tensor

from cluster.gallery.assets import Assets, Picture, cells, sprite, still
from cluster.gallery.result import Result
from cluster.gallery.views import of_classes, samples
from distill.published import Sampler

TRUNCATIONS = (0.3, 0.5, 0.7, 0.85, 1.0)


@dataclass(frozen=True)
class ClassCard:
    """One class."""

    index: int
    name: str
    alt: str
    still: Picture | None
    """As published; None if the set has no image of the class."""
    sprite: Picture | None = None
    """At each step, below each other."""
    cells: Picture | None = None
    """Samples: a row per truncation, a column per seed."""
    real: Picture | None = None
    swatch: str | None = None


def cards(result: Result, assets: Assets, seeds: int) -> list[ClassCard]:
    """A card for each class, its pictures added to the assets."""
    stored, names = result.published.stored, result.published.classes
    best = of_classes(stored, result.shown)
    over_steps = [of_classes(stored, shown) for shown in result.frames.shown]
    sampled = None
    if isinstance(stored, Sampler):
        sampled = samples(stored, result.published.preprocess.to_pixels, seeds, TRUNCATIONS)
    return [
        _card(k, name, result, assets, best[k], [step[k] for step in over_steps], sampled)
        for k, name in enumerate(names)
    ]


def _card(
    k: int, name: str, result: Result, assets: Assets, best: Tensor, steps: list[Tensor], sampled: Tensor | None
) -> ClassCard:
    file = f"class-{k:04d}"
    count = f"{len(best)} distilled images" if len(best) > 1 else "Distilled image"
    return ClassCard(
        k,
        name,
        f"{count} of {name}",
        still(assets, file, best) if len(best) else None,
        sprite(assets, f"{file}-steps", steps) if steps and len(best) else None,
        cells(assets, f"{file}-samples", sampled[k]) if sampled is not None else None,
        still(assets, f"{file}-real", result.real[k], len(result.real[k]))
        if len(result.real) and len(result.real[k])
        else None,
    )
