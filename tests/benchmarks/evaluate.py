"""Times the judge: five networks trained on a set and scored, ours against one after another in eager mode.

python tests/benchmarks/evaluate.py [--json FILE] [--repeats 3] [--compile] [--bf16] [--threads 2] [--case cifar]

Eager: an nn.Module with the norm of the published codes (GroupNorm kernel), torch.optim.SGD, one network after another.
Ours: the judge of `stillhouse evaluate`, float32 like the other or, with --bf16, as `evaluation.bf16=true` has it; side
by side where it decides so. Its step is recorded and replayed, or, with --compile, compiled, which a run long enough
decides by itself. Both see as many images, the same
DSA augmentation and the same test images. Seconds are medians of alternating runs; the first run of ours, which records
or compiles, is reported on its own.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from distill import nets, recipe, rng  # noqa: E402
from distill.augment import augment  # noqa: E402
from distill.context import Context  # noqa: E402
from distill.data.base import Dataset, Split  # noqa: E402
from distill.engine.inner import InnerStep  # noqa: E402
from distill.evaluate import Judge, real_set  # noqa: E402
from distill.evaluate.judge import optimizer_of  # noqa: E402

NETWORKS = 5


@dataclass(frozen=True)
class Case:
    """A set of one image per class and the network that is trained on it."""

    shape: tuple[int, int, int]
    depth: int
    width: int
    epochs: int
    test: int
    strategies: tuple[str, ...]


CASES = {
    "digits": Case((1, 8, 8), 2, 32, 300, 360, ("crop", "scale", "rotate")),
    "cifar": Case((3, 32, 32), 3, 128, 60, 600, recipe.DSA),
}


class PublishedNorm(nn.Module):
    """Instance norm as the published codes have it: GroupNorm with one channel per group."""

    def __init__(self, ours: nn.Module):
        super().__init__()
        self.weight, self.bias = nn.Parameter(ours.weight.detach().clone()), nn.Parameter(ours.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, x.shape[1], self.weight, self.bias)


def context_of(case: Case, bf16: bool) -> Context:
    """Random images; what they show does not matter to the clock."""
    table = {
        "name": "benchmark", "dataset": {"kind": "digits"}, "network": {"depth": case.depth, "width": case.width},
        "evaluation": {"networks": NETWORKS, "epochs": case.epochs, "augment": {"strategies": case.strategies},
                       "bf16": bf16},
    }  # fmt: skip
    r = recipe.parse(table, "benchmark")
    g = rng.generator(0, "benchmark")

    def split(n: int) -> Split:
        return Split(torch.randn(n, *case.shape, generator=g), torch.arange(n) % 10)

    data = Dataset(split(100), split(20), split(case.test), tuple("0123456789"), "0" * 64, lambda x: x)
    return Context(r, data, nets.build(r.network, case.shape, 10), torch.device("cpu"))


def eager(context: Context, x: Tensor, y: Tensor) -> list[float]:
    """Accuracies of five networks, one after another, in plain PyTorch."""
    return [eager_one(context, x, y, i) for i in range(NETWORKS)]


def eager_one(context: Context, x: Tensor, y: Tensor, i: int) -> float:
    e, test = context.recipe.evaluation, context.data.test
    net = nets.build(context.recipe.network, context.data.shape, 10).module
    net.norms = nn.ModuleList(PublishedNorm(norm) for norm in net.norms)
    optimizer = torch.optim.SGD(net.parameters(), lr=e.lr, momentum=e.momentum, weight_decay=e.weight_decay)
    for epoch in range(e.epochs):
        if epoch == e.epochs // 2:
            optimizer.param_groups[0]["lr"] = 0.1 * e.lr
        batch = augment(x, e.augment, rng.generator(0, "eager", i, epoch))
        optimizer.zero_grad()
        F.cross_entropy(net(batch), y).backward()
        optimizer.step()
    with torch.no_grad():
        answers = torch.cat([net(part).argmax(1) for part in test.x.split(1000)])
    return float((answers == test.y).float().mean())


def measure(name: str, repeats: int, compiled: bool, bf16: bool) -> dict:
    """Medians of alternating runs of a case."""
    context = context_of(CASES[name], bf16)
    images = real_set(context, 1, rng.generator(0, "images"))
    x, y = (t.detach() for t in images.training_set())
    judge = Judge(context)

    def ours() -> None:
        judge.score(images, None, context.data.test, NETWORKS, "benchmark")

    if compiled:
        judge.step = InnerStep(judge.network, optimizer_of(context.recipe.evaluation), compiled=True)
    warm_up = clock(ours)
    times = {"ours": [], "eager": []}
    for _ in range(repeats):
        times["ours"].append(clock(ours))
        times["eager"].append(clock(lambda: eager(context, x, y.argmax(1))))
    ours_seconds, eager_seconds = (statistics.median(times[k]) for k in ("ours", "eager"))
    figures = {"case": name, "ours_seconds": ours_seconds, "eager_seconds": eager_seconds}
    figures |= {"faster": eager_seconds / ours_seconds, "first_run_seconds": warm_up}
    figures |= {"compiled": compiled, "bf16": bf16, "threads": torch.get_num_threads()}
    return figures | {"side_by_side": judge.together(images)}


def clock(work) -> float:
    """Seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name in options.case or CASES:
        rows.append(measure(name, options.repeats, options.compile, options.bf16))
        print("{case}: ours {ours_seconds:.2f} s, eager {eager_seconds:.2f} s, {faster:.2f}x, first run "
              "{first_run_seconds:.1f} s, side by side {side_by_side}".format(**rows[-1]), flush=True)  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
