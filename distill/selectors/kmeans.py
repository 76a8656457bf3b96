"""Images nearest to, or farthest from, the centres of k-means clusters of their class, one cluster for each.

Where a class has fewer different images than are asked for, the rest is drawn at random from what is left of it.
"""

import torch
from torch import Tensor

from distill.selectors.evidence import Evidence


def pick_nearest(evidence: Evidence, members: Tensor, count: int, g: torch.Generator) -> Tensor:
    """From each of `count` clusters of the rows `members`, the image nearest to its centre: typical ones."""
    return _pick(evidence, members, count, g, farthest=False)


def pick_farthest(evidence: Evidence, members: Tensor, count: int, g: torch.Generator) -> Tensor:
    """From each of `count` clusters of the rows `members`, the image farthest from its centre: outliers."""
    return _pick(evidence, members, count, g, farthest=True)


def _pick(evidence: Evidence, members: Tensor, count: int, g: torch.Generator, farthest: bool) -> Tensor:
    from sklearn.cluster import KMeans  # takes a second to import, which every worker would wait for

    features = evidence.features[members]
    seed = int(torch.randint(2**31, (), generator=g))
    clusters = min(count, len(features.unique(dim=0)))  # equal images cannot be two clusters
    found = KMeans(clusters, n_init=3, random_state=seed).fit(features.numpy())
    cluster = torch.from_numpy(found.labels_).long()
    apart = (features - torch.from_numpy(found.cluster_centers_).to(features)[cluster]).square().sum(1)
    rows = [(cluster == k).nonzero().flatten() for k in range(clusters)]
    picked = [int(r[apart[r].argmax() if farthest else apart[r].argmin()]) for r in rows if len(r)]
    others = [i for i in torch.randperm(len(members), generator=g).tolist() if i not in picked]
    return members[picked + others[: count - len(picked)]]
