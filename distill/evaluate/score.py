"""Accuracies of networks trained on a set, and the choice between several lengths of training."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from distill.text import percent


@dataclass(frozen=True)
class Score:
    """Accuracies of n networks, as fractions."""

    values: tuple[float, ...]
    steps: int | None = None
    """The selected length of training; None if there was only one."""
    by_steps: dict[int, "Score"] = field(default_factory=dict)
    """The score at each length, if there were several."""

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return float(torch.tensor(self.values, dtype=torch.float64).mean())

    @property
    def std(self) -> float:
        """Sample standard deviation; 0 for a single network."""
        return float(torch.tensor(self.values, dtype=torch.float64).std()) if self.n > 1 else 0.0

    def as_dict(self) -> dict:
        figures = {"mean": self.mean, "std": self.std, "n": self.n}
        if self.by_steps:
            figures |= {"steps": self.steps, "by_steps": {str(k): s.as_dict() for k, s in self.by_steps.items()}}
        return figures

    def __str__(self) -> str:
        return f"{percent(self.as_dict())} % (n={self.n})"


@dataclass(frozen=True)
class Measured:
    """The accuracy of one network after each length of training."""

    lengths: tuple[int, ...]
    """Steps."""
    accuracy: tuple[float, ...]
    """On the images whose accuracy is reported."""
    held_out: tuple[float, ...]
    """On the images that select between lengths; empty if there is only one length."""


def headline(measured: Sequence[Measured]) -> Score:
    """The score at the length with the best mean accuracy on the images that select; the shortest in a tie."""
    lengths = measured[0].lengths
    scores = [Score(tuple(m.accuracy[k] for m in measured)) for k in range(len(lengths))]
    if len(lengths) == 1:
        return scores[0]
    held_out = [Score(tuple(m.held_out[k] for m in measured)).mean for k in range(len(lengths))]
    best = held_out.index(max(held_out))
    return Score(scores[best].values, lengths[best], dict(zip(lengths, scores, strict=True)))
