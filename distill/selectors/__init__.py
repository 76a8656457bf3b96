"""Choosing real images: baselines beside a distilled set (`evaluation.baselines`), or its start (`synthetic.init`).

    select("herding", Evidence(context), [10] * context.classes, rng.generator(seed, "herding"))

One method per file. Each has functions `pick(evidence, members, count, g)` that take `members`, the indices (m,) of one
class's training images, and return `count` of them; all randomness comes from g.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from distill.data.base import Split
from distill.errors import DataError
from distill.selectors import at_random, entropy, forgetting, herding, kmeans
from distill.selectors.evidence import Evidence

__all__ = ["SELECTORS", "Evidence", "members_of", "select"]

Pick = Callable[[Evidence, Tensor, int, torch.Generator], Tensor]

SELECTORS: dict[str, Pick] = {
    "random": at_random.pick,
    "herding": herding.pick,
    "kmeans-nearest": kmeans.pick_nearest,
    "kmeans-farthest": kmeans.pick_farthest,
    "forgetting": forgetting.pick,
    "entropy-high": entropy.pick_highest,
    "entropy-low": entropy.pick_lowest,
}
"""The selectors by their names in recipes (`recipe.Selector`)."""


def select(name: str, evidence: Evidence, counts: list[int], g: torch.Generator) -> Tensor:
    """Indices (sum(counts),) into the training part, ordered by class: counts[c] images of class c.

    Raises DataError if a class has too few images, and RecipeError if the selector needs experts and there are none.
    """
    members = [members_of(evidence.train, c, count) for c, count in enumerate(counts)]
    picks = [SELECTORS[name](evidence, m, n, g) for m, n in zip(members, counts, strict=True) if n]
    return torch.cat([torch.empty(0, dtype=torch.long), *picks])


def members_of(train: Split, label: int, count: int) -> Tensor:
    """Indices of a class's images, on the CPU. Raises DataError if they are fewer than `count`."""
    members = (train.y.cpu() == label).nonzero().flatten()
    if len(members) < count:
        name = repr(train.names[label]) if train.names else label
        held = train.held_out[label] if train.held_out else 0
        more = f" ({held} more {'are' if held > 1 else 'is'} held out: dataset.validation)" if held else ""
        raise DataError(
            f"class {name} has only {len(members)} training images{more} to choose {count} from; lower the images per "
            'class (synthetic.ipc, --ipc), or start from synthetic.init = "noise"'
        )
    return members
