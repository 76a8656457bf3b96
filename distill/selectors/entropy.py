"""Images of which an expert is least, or most, certain, by the entropy of its predictions (the generative thesis)."""

import torch
from torch import Tensor

from distill.selectors.evidence import Evidence


def pick_highest(evidence: Evidence, members: Tensor, count: int, g: torch.Generator) -> Tensor:
    """The `count` images of `members` with the highest entropy, hard ones first."""
    return members[_entropy(evidence, members).argsort(descending=True, stable=True)[:count]]


def pick_lowest(evidence: Evidence, members: Tensor, count: int, g: torch.Generator) -> Tensor:
    """The `count` images of `members` with the lowest entropy, easy ones first."""
    return members[_entropy(evidence, members).argsort(stable=True)[:count]]


def _entropy(evidence: Evidence, members: Tensor) -> Tensor:
    """Entropy (m,) in nats."""
    log_p = evidence.logits[members].double().log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)
