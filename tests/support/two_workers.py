"""One worker of a gloo group of plain processes: runs loops of support.small and writes where they ended.

python tests/support/two_workers.py RANK WORLD RENDEZVOUS-FILE FOLDER '{"trajectory": ["outer.steps=3"]}'
"""

import json
import sys

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from support import small

from distill.loop import Loop, Watcher


def finish(kind: str, overrides: list[str], rank: int = 0, world: int = 1) -> dict[str, torch.Tensor]:
    """Run a float64 loop to its end; everything it would save."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    reduce = dist.all_reduce if world > 1 else (lambda tensor: None)
    loop = Loop(small.context(kind, *overrides, dtype=torch.float64), Watcher(), rank, world, reduce)
    loop.run()
    kept = loop.checkpoint().tensors.items()
    return {name: t.detach().clone() for name, t in kept if not name.startswith(("best", "end"))}


if __name__ == "__main__":
    rank, world, rendezvous, folder, jobs = sys.argv[1:]
    dist.init_process_group("gloo", f"file://{rendezvous}", rank=int(rank), world_size=int(world))
    for kind, overrides in json.loads(jobs).items():
        save_file(finish(kind, overrides, int(rank), int(world)), f"{folder}/{kind}-{rank}.safetensors")
    dist.destroy_process_group()
