"""Images nearest to, or farthest from, the centres of k-means clusters of their class, one image for each cluster.

If a class has fewer different images than are to be chosen, the rest are drawn at random from its other images.
"""

import torch
from torch import Tensor

from distill.selectors.evidence import Evidence


def pick_nearest(evidence: Evidence, members: Tensor, count: int, g: torch.Generator) -> Tensor:
    """From each of `count` clusters of the images `members`, the one nearest to its centre: typical images."""
    return _pick(evidence, members, count, g, farthest=False)


def pick_farthest(evidence: Evidence, members: Tensor, count: int, g: torch.Generator) -> Tensor:
    """From each of `count` clusters of the images `members`, the one farthest from its centre: outliers."""
    return _pick(evidence, members, count, g, farthest=True)


def _pick(evidence: Evidence, members: Tensor, count: int, g: torch.Generator, farthest: bool) -> Tensor:
    from sklearn.cluster import KMeans  # takes a second to import, which every worker would wait for

    features = evidence.features[members]
    seed = int(torch.randint(2**31, (), generator=g))
    clusters = min(count, len(features.unique(dim=0)))  # equal images cannot be two clusters
    fitted = KMeans(clusters, n_init=3, random_state=seed).fit(features.numpy())
    cluster = torch.from_numpy(fitted.labels_).long()
    distance = (features - torch.from_numpy(fitted.cluster_centers_).to(features)[cluster]).square().sum(1)
    rows = [(cluster == k).nonzero().flatten() for k in range(clusters)]
    picked = [int(r[distance[r].argmax() if farthest else distance[r].argmin()]) for r in rows if len(r)]
    others = [i for i in torch.randperm(len(members), generator=g).tolist() if i not in picked]
    return members[picked + others[: count - len(picked)]]
