"""All randomness of the project: one generator per (seed, purpose, step), so that every draw can be repeated.

Numbers are drawn on the CPU and then moved, so that runs on CPU and CUDA get the same ones.
"""

import hashlib

import torch


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator that depends only on its arguments, e.g. `generator(0, "batch", step, segment)`."""
    text = "\x1f".join(str(part) for part in (seed, *purpose))
    g = torch.Generator()
    g.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True))
    return g
