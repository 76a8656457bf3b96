"""How the workers of a group act together: they sum tensors, and wait for one that is busy."""

from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(days=365)
"""How long workers wait for one that is busy and alive."""


class PeerLost(RuntimeError):
    """Another worker of the group has died: the group is to be started again."""


def _with_peers(operation: Callable[[], object]) -> None:
    """Do a collective operation. It fails if a worker has gone; an error of its own would recur in the next group."""
    try:
        operation()
    except RuntimeError as error:
        raise PeerLost(f"another worker has gone: {error}") from error


def together(world: int) -> tuple[Callable[[Tensor], None], Callable[[], None]]:
    """What a Loop calls to sum a tensor over the workers, and to wait until all of them have come as far.

    A collective operation on the default process group fails after its timeout, 30 minutes with gloo and 10 with NCCL,
    and rank 0 may judge a set for longer than that: waiting has a group of its own. Call this in every worker.
    """
    if world == 1:
        return lambda tensor: None, lambda: None
    patient = dist.new_group(backend="gloo", timeout=PATIENCE)
    return (
        lambda tensor: _with_peers(lambda: dist.all_reduce(tensor)),
        lambda: _with_peers(lambda: dist.all_reduce(torch.zeros(1), group=patient)),
    )
