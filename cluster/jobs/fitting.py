"""What fits on the nodes of a cluster: a worker needs all that it claims on one node.

refuse_unfit({"CPU": 3}, 2, "workers")    # on two nodes of 2 CPUs: ClusterError, with the numbers
"""

import os

from cluster.jobs.session import is_private, nodes
from distill.errors import ClusterError

Claim = dict[str, float]
GROWS = "STILLHOUSE_CLUSTER_GROWS"
"""Environment variable: the cluster starts larger nodes than it has now, so wait for them."""


def holds(node: Claim, each: Claim) -> int:
    """How many bundles a node can hold at once."""
    return min(int(node.get(name, 0.0) / amount + 1e-9) for name, amount in each.items() if amount > 0)


def refuse_unfit(each: Claim, workers: int, fix: str, there: list[Claim] | None = None) -> str | None:
    """Raise ClusterError if the workers will never run; if they only have to wait for more nodes, say so.

    A machine of its own does not grow. A cluster may get more nodes of the kinds that it has, and of other kinds only
    if $STILLHOUSE_CLUSTER_GROWS is 1. `fix` is what the user can lower; `there` are the nodes, by default those of Ray.
    """
    there = nodes() if there is None else there
    room = sum(holds(node, each) for node in there)
    if room >= workers:
        return None
    said = (
        f"{workers} worker{'s' * (workers != 1)} claim {_text(each)} each, on one node; "
        f"the {'machine has' if is_private() else 'nodes have'} {_several(there)}: {room} fit"
    )
    if os.environ.get(GROWS) == "1" or (room and not is_private()):
        return f"waiting for the cluster to grow: {said}; lower {fix} if it cannot"
    larger = "" if is_private() else f", add nodes, or set {GROWS}=1 to wait for larger ones"
    raise ClusterError(f"{said}. Lower {fix}{larger}")


def threads_for(workers: int, there: list[Claim]) -> int:
    """The most CPU threads that each of the workers can have when all run at once; at least 1."""
    most = int(max((node["CPU"] for node in there), default=1))
    fitting = (n for n in range(most, 1, -1) if sum(holds(node, {"CPU": n}) for node in there) >= workers)
    return next(fitting, 1)


def _text(claim: Claim) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in claim.items() if amount)


def _several(there: list[Claim]) -> str:
    """Equal nodes counted: `2 x 2 CPU, 1 x 8 CPU and 1 GPU`."""
    texts = [_text(node) or "nothing" for node in there]
    if len(texts) == 1:
        return texts[0]
    return ", ".join(f"{texts.count(text)} x {text}" for text in dict.fromkeys(texts))
