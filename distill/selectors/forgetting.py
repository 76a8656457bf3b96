"""Images that experts forget most often (forgetting events, Toneva et al. 2019): right after an epoch, wrong after the
next that was saved."""

import torch
from torch import Tensor

from distill.selectors.evidence import Evidence


def pick(evidence: Evidence, members: Tensor, count: int, g: torch.Generator) -> Tensor:
    """The `count` rows of `members` with most events, ties at random. An image that no epoch gets right counts as
    forgotten infinitely often, as in the paper. Raises RecipeError where there are no experts."""
    events = events_of(evidence.right)[members]  # (m,)
    shuffled = torch.randperm(len(members), generator=g)
    return members[shuffled[events[shuffled].argsort(descending=True, stable=True)[:count]]]


def events_of(right: Tensor) -> Tensor:
    """Mean events (n,) from right (experts, epochs, n), whether each image was classified correctly."""
    forgotten = (right[:, :-1] & ~right[:, 1:]).sum(1).double()  # (experts, n)
    never = ~right.any(1)
    return forgotten.masked_fill(never, torch.inf).mean(0)
