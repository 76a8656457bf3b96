"""Images whose mean stays closest to that of their class (herding, Welling 2009; Rebuffi et al. 2017, algorithm 4)."""

import torch
from torch import Tensor

from distill.selectors.evidence import Evidence


def pick(evidence: Evidence, members: Tensor, count: int, g: torch.Generator) -> Tensor:
    """`count` of the images `members`, one after another, each the one that brings the mean of those chosen nearest to
    the mean of all in feature space."""
    features = evidence.features[members].double()  # (m, d)
    mean, total = features.mean(0), torch.zeros_like(features[0])
    taken = torch.zeros(len(members), dtype=torch.bool)
    chosen: list[int] = []
    for k in range(1, count + 1):
        distance = ((total + features) / k - mean).square().sum(1)  # (m,)
        best = int(distance.masked_fill(taken, torch.inf).argmin())
        taken[best] = True
        chosen.append(best)
        total = total + features[best]
    return members[chosen]
