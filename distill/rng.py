"""All randomness of the project: one generator per (seed, purpose, step), so that every draw can be made again.

Draws are made on the CPU and moved, so that CPU and CUDA runs see the same numbers.
"""

import hashlib

import torch


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator that depends on nothing but its arguments, e.g. `generator(0, "batch", step, segment)`."""
    text = "\x1f".join(str(part) for part in (seed, *purpose))
    g = torch.Generator()
    g.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True))
    return g
