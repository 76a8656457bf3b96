"""One worker of a gloo group of plain processes, in which rank 0 judges for longer than the group's timeout.

python tests/support/slow_judge.py RANK RENDEZVOUS-FILE SECONDS patient|impatient
"""

import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from support import small

from cluster.jobs.together import together
from distill.loop import Loop, Watcher

TIMEOUT = timedelta(seconds=2)


class SlowJudge(Watcher):
    """Takes its time over the first judgement."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def judged(self, step, score, best):
        time.sleep(0 if step else self.seconds)


if __name__ == "__main__":
    rank, rendezvous, seconds, manner = sys.argv[1:]
    dist.init_process_group("gloo", f"file://{rendezvous}", rank=int(rank), world_size=2, timeout=TIMEOUT)
    torch.set_num_threads(1)
    reduce, wait = together(2)
    if manner == "impatient":
        wait = lambda: None  # noqa: E731
    context = small.context("trajectory", "objective.segments=2", "outer.steps=1")
    loop = Loop(context, SlowJudge(float(seconds)), int(rank), 2, reduce, wait)
    loop.run()
    print(f"done {loop.done}")
    dist.destroy_process_group()
