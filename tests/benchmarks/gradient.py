"""One outer step of gradient matching, timed beside the loop of the published kind.

    python tests/benchmarks/gradient.py --classes 10 --ipc 10 --width 32 --json gradient.json

The loop is eager, uses GroupNorm, and keeps the graphs of all classes until one backward pass. Both match the same
images without augmentation in a network that is not trained in between. The two take turns; the smallest CPU time of
each counts. `--compiled` adds torch.compile of ours, which `compile = "auto"` chooses for long runs; without it our
norms are slower than the GroupNorm kernel (the ratio is then below 1).
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from distill import context, objectives, recipe, synthetic
from distill.cost.memory import PeakMemory
from distill.data.base import Dataset, Split
from distill.data.preprocess import Preprocess
from distill.objectives.gradient import Matching


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("classes", 10), ("ipc", 10), ("width", 32), ("side", 32), ("batch-real", 64), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    a = parser.parse_args()
    torch.set_num_threads(1)
    c = _context(a)
    made, objective = synthetic.build(c), objectives.build(c)
    ways = {"ours": lambda: _ours(objective, made), "loop": lambda: _loop(c, made, a)}
    objective.loss(made, 0, [0])
    for way in ("eager", "traced", "compiled")[: 3 if a.compiled else 2]:
        objective.matching = Matching(c.network, "cosine", way == "compiled", way == "traced")
        ours = objective.matching
        ways[f"ours_{way}"] = lambda ours=ours: _ours(objective, made, ours)
    del ways["ours"]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(a.rounds + 1):  # the first also records and compiles
        for name, run in ways.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    figures = {f"{name}_seconds": min(times[1:]) for name, times in seconds.items()}
    for name in ("ours_traced", "loop"):
        with PeakMemory() as memory:
            ways[name]()
        figures[f"{name}_bytes"] = memory.peak
    best = figures["ours_compiled_seconds" if a.compiled else "ours_traced_seconds"]
    figures["ratio"] = figures["loop_seconds"] / best
    print(json.dumps(figures, indent=1))
    if a.json:
        with open(a.json, "w", encoding="utf8") as file:
            json.dump(vars(a) | figures, file, indent=1)


def _ours(objective: objectives.Objective, made: synthetic.Synthetic, matching: Matching | None = None) -> None:
    objective.matching = matching or objective.matching
    made.x.grad = None
    objective.loss(made, 0, [0]).backward()


def _loop(c: context.Context, made: synthetic.Synthetic, a: argparse.Namespace) -> None:
    net, total = _Plain(a), 0.0
    weights = list(net.parameters())
    for k in range(a.classes):
        rows = (c.data.train.y == k).nonzero().flatten()[: a.batch_real]
        x, y = made.x[made.y.argmax(1) == k], torch.full((a.ipc,), k)
        real = torch.autograd.grad(F.cross_entropy(net(c.data.train.x[rows]), c.data.train.y[rows]), weights)
        ours = torch.autograd.grad(F.cross_entropy(net(x), y), weights, create_graph=True)
        for g, h in zip(ours, real, strict=True):
            if g.dim() > 1:
                total = total + (1 - F.cosine_similarity(g.flatten(1), h.flatten(1), 1)).sum()
    made.x.grad = None
    total.backward()


class _Plain(nn.Sequential):
    """ConvNet of depth 3 with GroupNorm."""

    def __init__(self, a: argparse.Namespace):
        w, layers, inputs = a.width, [], 3
        for _ in range(3):
            layers += [nn.Conv2d(inputs, w, 3, padding=1), nn.GroupNorm(w, w), nn.ReLU(), nn.AvgPool2d(2)]
            inputs = w
        super().__init__(*layers, nn.Flatten(), nn.Linear(w * (a.side // 8) ** 2, a.classes))


def _context(a: argparse.Namespace) -> context.Context:
    settings = [
        "objective={}", "objective.kind=gradient", "objective.augment.strategies=[]", "objective.outer_loop=1",
        f"objective.batch_real={a.batch_real}", f"synthetic.ipc={a.ipc}", f"network.width={a.width}", "network.depth=3",
        "outer.steps=1", "device=cpu",
    ]  # fmt: skip
    g = torch.Generator().manual_seed(0)
    n = a.classes * max(a.batch_real, a.ipc)
    y = torch.arange(n) % a.classes
    split = Split(torch.randn(n, 3, a.side, a.side, generator=g), y)
    images = Dataset(split, split, split, tuple(f"class {k}" for k in range(a.classes)), "0" * 64, Preprocess())
    return context.prepare(recipe.load("digits", settings), dataset=images)


if __name__ == "__main__":
    main()
