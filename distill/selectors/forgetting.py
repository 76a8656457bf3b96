"""Images that experts forget most often: classified correctly after a saved epoch and wrongly after the next.

Forgetting events, Toneva et al. 2019.
"""

import torch
from torch import Tensor

from distill.selectors.evidence import Evidence


def pick(evidence: Evidence, members: Tensor, count: int, g: torch.Generator) -> Tensor:
    """The `count` images of `members` with most events, ties at random. An image that no epoch gets right counts as
    forgotten infinitely often, as in the paper. Raises RecipeError if there are no experts."""
    events = events_of(evidence.correct)[members]  # (m,)
    shuffled = torch.randperm(len(members), generator=g)
    return members[shuffled[events[shuffled].argsort(descending=True, stable=True)[:count]]]


def events_of(correct: Tensor) -> Tensor:
    """Mean events (n,) from correct (experts, epochs, n), whether each image was classified correctly."""
    forgotten = (correct[:, :-1] & ~correct[:, 1:]).sum(1).double()  # (experts, n)
    never = ~correct.any(1)
    return forgotten.masked_fill(never, torch.inf).mean(0)
