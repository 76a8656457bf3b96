"""Times expert training against a plain eager loop, the published way, in the same run; and compares what they reach.

python tests/benchmarks/experts.py [--json FILE] [--quick]
python tests/benchmarks/experts.py --accuracy [--json FILE]

Ours: the step that long training on this machine gets by default (compiled, channels last, bfloat16 autocast where it
is multiplied in hardware), images and augmentation drawn as experts draw them, memory in large pages as workers take it
(engine/allocator.py). Plain: a module with GroupNorm(C, C), float32, torch.optim.SGD, nothing compiled, the system's
memory; its DSA is the same code. Each has a process of its own and they take turns; images/s are medians. ConvNet-3,
width 128, 32 px, batch 256. --accuracy trains five of each on 8,000 images of CIFAR-10 ($STILLHOUSE_DATA), width 32, or
on the digits.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill import context as contexts
from distill import nets, recipe, rng, train
from distill.accuracy import accuracy
from distill.augment import augment
from distill.context import Context
from distill.data.base import Dataset, Split
from distill.engine import allocator

SHAPE, CLASSES = (3, 32, 32), 10
SEEDS = 5


class PlainNet(nn.Module):
    """ConvNet as the published codes write it."""

    def __init__(self, depth: int, width: int, shape: tuple[int, int, int], classes: int):
        super().__init__()
        c, h, w = shape
        blocks = []
        for inside in [c] + [width] * (depth - 1):
            blocks += [nn.Conv2d(inside, width, 3, padding=1), nn.GroupNorm(width, width), nn.ReLU(), nn.AvgPool2d(2)]
        self.layers = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(width * (h >> depth) * (w >> depth), classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def random_context(width: int, batch: int, strategies: tuple[str, ...], images: int) -> Context:
    """Random images of CIFAR's shape."""
    g = rng.generator(0, "images")
    x, y = torch.randn(images, *SHAPE, generator=g), torch.arange(images) % CLASSES
    split, small = Split(x, y), Split(x[:10], y[:10])
    data = Dataset(split, small, small, tuple(map(str, range(CLASSES))), "0" * 64, lambda x: x)
    table = {
        "name": "speed",
        "dataset": {"kind": "digits"},
        "network": {"depth": 3, "width": width},
        "experts": {"batch": batch, "augment": {"strategies": list(strategies)}, "compile": "on"},
    }
    r = recipe.parse(table, "benchmark")
    return Context(r, data, nets.build(r.network, SHAPE, CLASSES), torch.device("cpu"))


# ---------------------------------------------------------------- speed


def ours(context: Context) -> Callable[[], None]:
    """Trains one epoch further at every call, compiled at the first."""
    step = train.expert_step(context)
    at = [train.begin(context, step, [0])]

    def epoch() -> None:
        at[0] = next(train.epochs(context, step, at[0]))

    return epoch


def plain(context: Context) -> Callable[[], None]:
    """The same with the plain loop."""
    o, model = context.recipe.experts, PlainNet(3, context.recipe.network.width, SHAPE, CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), o.lr)
    return lambda: plain_epoch(model, optimizer, context, rng.generator(0, "plain"))


def plain_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, context: Context, g: torch.Generator) -> None:
    o, data = context.recipe.experts, context.data.train
    for rows in torch.randperm(len(data), generator=g).split(o.batch):
        optimizer.zero_grad()
        F.cross_entropy(model(augment(data.x[rows], o.augment, g)), data.y[rows]).backward()
        optimizer.step()


class Rival:
    """A process that holds one way of training and times epochs when asked."""

    def __init__(self, kind: str, quick: bool):
        command = [sys.executable, __file__, "--serve", kind] + ["--quick"] * quick
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, augmentation: str) -> float:
        """Of one epoch."""
        self.process.stdin.write(augmentation + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def serve(kind: str, quick: bool) -> None:
    """The other end of a Rival: a line with the augmentation in, a line with the seconds of an epoch out."""
    if kind == "ours":
        allocator.settle()
    made = {name: RIVALS[kind](context_of(name, quick)) for name in AUGMENTATIONS}
    for line in sys.stdin:
        start = time.perf_counter()
        made[line.strip()]()
        print(time.perf_counter() - start, flush=True)


RIVALS = {"ours": ours, "plain": plain}
AUGMENTATIONS = {"none": (), "dsa": recipe.DSA}


def context_of(augmentation: str, quick: bool) -> Context:
    width, batch, batches = (8, 32, 2) if quick else (128, 256, 4)
    return random_context(width, batch, AUGMENTATIONS[augmentation], batch * batches)


def speed(name: str, images: int, rivals: dict[str, Rival], repeats: int) -> dict:
    """Images per second of both, alternating."""
    for kind, rival in rivals.items():
        print(f"{name}: first epoch of {kind} {rival.seconds(name):.1f} s", flush=True)
    seconds: dict[str, list[float]] = {kind: [] for kind in rivals}
    for _ in range(repeats):
        for kind, rival in rivals.items():
            seconds[kind].append(rival.seconds(name))
    rate = {kind: images / statistics.median(s) for kind, s in seconds.items()}
    return {"augment": name, "ours_images_per_s": rate["ours"], "plain_images_per_s": rate["plain"]}


def speeds(o: argparse.Namespace) -> dict:
    example = context_of("none", o.quick)
    rivals = {kind: Rival(kind, o.quick) for kind in RIVALS}
    rows = [speed(name, len(example.data.train), rivals, o.repeats) for name in AUGMENTATIONS]
    for rival in rivals.values():
        rival.close()
    width, batch, bf16 = example.recipe.network.width, example.recipe.experts.batch, train.choose(example).bf16
    print(f"\nConvNet-3 width {width}, batch {batch}, {torch.get_num_threads()} threads, bf16 {bf16}")
    print(f"{'augmentation':>12} {'ours, images/s':>16} {'plain, images/s':>16} {'faster':>8}")
    for r in rows:
        a, b = r["ours_images_per_s"], r["plain_images_per_s"]
        print(f"{r['augment']:>12} {a:16.0f} {b:16.0f} {a / b:7.1f}x")
    figures = {key: rows[0][key] for key in ("ours_images_per_s", "plain_images_per_s")}
    return {**figures, "width": width, "threads": torch.get_num_threads(), "bf16": bf16, "rows": rows}


# ---------------------------------------------------------------- accuracy


def real_context(quick: bool) -> Context:
    """A recipe small enough for minutes: 8,000 images of CIFAR-10 where they are, else the digits."""
    where = Path(os.environ.get("STILLHOUSE_DATA", ".")) / "cifar10"
    cifar = {"kind": "parquet", "path": str(where), "limit": 8000, "limit_test": 4000}
    table = {
        "name": "accuracy",
        "dataset": cifar if where.is_dir() and not quick else {"kind": "digits"},
        "network": {"depth": 3 if where.is_dir() and not quick else 2, "width": 32},
        "experts": {"epochs": 2 if quick else 12, "lr": 0.02, "momentum": 0.9, "batch": 64, "compile": "on"},
        "objective": {"kind": "distribution"},
    }
    return contexts.prepare(recipe.parse(table, "benchmark"))


def plain_accuracy(context: Context, seed: int) -> float:
    """Final test accuracy of the plain loop; it starts from the parameters that ours starts from."""
    o, n = context.recipe.experts, context.recipe.network
    model = PlainNet(n.depth, n.width, context.data.shape, context.classes)
    theta = context.network.init(rng.generator(o.seed, "expert init", seed))
    ordered = context.network.layout.unflatten(theta)
    names = [f"{part}.{i}.{what}" for i in range(n.depth) for part in ("convs", "norms") for what in ("weight", "bias")]
    for parameter, name in zip(model.parameters(), [*names, "classifier.weight", "classifier.bias"], strict=True):
        parameter.data = ordered[name].clone()
    optimizer = torch.optim.SGD(model.parameters(), o.lr, momentum=o.momentum)
    for epoch in range(o.epochs):
        plain_epoch(model, optimizer, context, rng.generator(seed, "plain", epoch))
    test = context.data.test
    with torch.no_grad():
        return float((torch.cat([model(x) for x in test.x.split(500)]).argmax(1) == test.y).float().mean())


def our_accuracy(context: Context, step, seed: int) -> float:
    *_, (_, theta) = train.expert_epochs(context, step, seed)
    return accuracy(step, theta, context.data.test)


def accuracies(o: argparse.Namespace) -> dict:
    context = real_context(o.quick)
    step = train.expert_step(context)
    reached: dict[str, list[float]] = {"ours": [], "plain": []}
    for seed in range(SEEDS):
        reached["ours"].append(our_accuracy(context, step, seed))
        reached["plain"].append(plain_accuracy(context, seed))
        print(f"seed {seed}: " + ", ".join(f"{kind} {100 * a[-1]:.2f} %" for kind, a in reached.items()), flush=True)
    for kind, values in reached.items():
        print(f"{kind:>6} {100 * statistics.mean(values):.2f} +- {100 * statistics.stdev(values):.2f} % (n={SEEDS})")
    return {"bf16": step.network.bf16, "dataset": context.recipe.dataset.kind, **reached}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--accuracy", action="store_true", help="final accuracies instead of speed")
    parser.add_argument("--quick", action="store_true", help="tiny: does it run?")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--serve", choices=RIVALS, help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.serve:
        return serve(o.serve, o.quick)
    figures = accuracies(o) if o.accuracy else speeds(o)
    if o.json:
        o.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
