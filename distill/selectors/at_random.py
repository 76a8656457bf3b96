"""Images drawn at random, the baseline of every table."""

import torch
from torch import Tensor

from distill.selectors.evidence import Evidence


def pick(evidence: Evidence, members: Tensor, count: int, g: torch.Generator) -> Tensor:
    """`count` of the images `members`, each equally likely."""
    return members[torch.randperm(len(members), generator=g)[:count]]
