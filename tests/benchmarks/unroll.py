"""Times and measures the engine against the plain unroll, which keeps the graph of every step, in the same run.

python tests/benchmarks/unroll.py [--json FILE] [--quick] [--device cuda]

One outer step: N inner SGD steps of ConvNet-3 (width 128, 32 px, float32) on the same images, then the gradient for the
pixels and the learning rate. Ours: the compiled inner step. Plain: autograd in eager mode, with the norm of the
published codes (GroupNorm kernel, contiguous) or with ours (arithmetic, channels last), whichever is faster at 10
images; the table says which. bf16: ours with bfloat16 autocast of the student (`engine.bf16`), which is another
arithmetic: the last column says how far its gradient is from the float32 one. Seconds are medians of alternating runs.

Memory is the highest resident memory of a process of its own, above its baseline: inputs made, one outer step of N = 1
done (libraries loaded, compiled code read from the cache that the timing run filled), freed memory given back.
On CUDA it is the peak that the allocator counts.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.growth import Growth  # noqa: E402
from support.plain_unroll import PlainUnroll  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch._dynamo.utils import counters  # noqa: E402

from distill import nets, recipe  # noqa: E402
from distill.inner import SGD, InnerStep  # noqa: E402
from distill.nets import Network  # noqa: E402
from distill.unroll import Unroll  # noqa: E402

CASES = [(images, steps) for images in (10, 100) for steps in (10, 20, 50)]
QUICK = [(4, 3), (4, 6)]
SHAPE, CLASSES = (3, 32, 32), 10


class PublishedNorm(nn.Module):
    """Instance norm as the published codes have it: GroupNorm with one channel per group."""

    def __init__(self, ours: nn.Module):
        super().__init__()
        self.weight, self.bias = ours.weight, ours.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, x.shape[1], self.weight, self.bias)


def network(width: int, published: bool, bf16: bool = False) -> Network:
    """ConvNet-3; both kinds have the same parameters in the same order."""
    net = nets.build(recipe.ConvNet(depth=3, width=width), SHAPE, CLASSES, bf16)
    if published:
        net.module.norms = nn.ModuleList(PublishedNorm(norm) for norm in net.module.norms)
    return net


class ContiguousPlain(PlainUnroll):
    """The plain unroll on images laid out as the published codes have them."""

    def _step(self, theta, buffers, x, y, lr, i):
        with torch.enable_grad():
            leaf = theta if theta.requires_grad else theta.detach().requires_grad_()
            loss = -(y * F.log_softmax(self.network(leaf, x), 1)).sum(1).mean()
            (g,) = torch.autograd.grad(loss, leaf, create_graph=True)
        return self.rule.update(theta, buffers, g, lr, i)


def trainer(kind: str, width: int) -> Callable:
    """ours, bf16 (ours with autocast), published (plain with GroupNorm) or arithmetic (plain with our norm)."""
    if kind in ("ours", "bf16"):
        return Unroll(InnerStep(network(width, published=False, bf16=kind == "bf16"), SGD(), compiled=True), "device")
    if kind == "published":
        return ContiguousPlain(network(width, published=True), SGD())
    return PlainUnroll(network(width, published=False), SGD())


class OuterStep:
    """Inputs of one outer step, made once; calling it gives the gradient of the pixels."""

    def __init__(self, images: int, width: int, device: str):
        g = torch.Generator().manual_seed(0)
        self.theta = network(width, published=False).init(g).to(device)
        self.x = torch.randn(images, *SHAPE, generator=g).to(device).requires_grad_()
        self.y = F.one_hot(torch.arange(images) % CLASSES, CLASSES).float().to(device)
        self.lr = torch.tensor(0.01, device=device, requires_grad=True)
        self.target = self.theta + 0.01 * torch.randn(self.theta.shape, generator=g).to(device)

    def __call__(self, train: Callable, steps: int) -> Tensor:
        start = self.theta.clone().requires_grad_()
        end = train(start, self.lr, lambda i: (self.x, self.y), steps, [self.x])
        loss = (end - self.target).square().sum() / (self.theta - self.target).square().sum()
        return torch.autograd.grad(loss, [self.x, self.lr])[0]


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


# ---------------------------------------------------------------- memory: one process per figure


def measure(kind: str, images: int, steps: int, width: int, device: str) -> int:
    """Bytes above the baseline, in this process."""
    train, outer = trainer(kind, width), OuterStep(images, width, device)
    outer(train, 1)
    if counters["inductor"]["fxgraph_cache_miss"]:
        raise RuntimeError("the compiled code was not in the cache: this process compiled, and its memory says nothing")
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        outer(train, steps)
        return torch.cuda.max_memory_allocated() - before
    with Growth() as growth:
        outer(train, steps)
    return growth.bytes


def mebibytes(kind: str, images: int, steps: int, o: argparse.Namespace) -> float | None:
    """The same in a fresh process; None when it ran out of memory."""
    case = f"{kind},{images},{steps},{o.width}"
    done = subprocess.run(
        [sys.executable, __file__, "--measure", case, "--device", o.device], capture_output=True, text=True
    )
    if done.returncode:
        print(f"{kind} at {images} images, N = {steps}: no figure\n{done.stderr[-500:]}", file=sys.stderr)
        return None
    return int(done.stdout.split()[-1]) / 2**20


# ---------------------------------------------------------------- the table


def row(images: int, steps: int, engines: dict[str, Callable], plain: str | None, o: argparse.Namespace) -> dict:
    """Medians of alternating runs, after one run of each; `plain` None where it would not fit."""
    outer = OuterStep(images, o.width, o.device)
    trainers = engines | ({"plain": trainer(plain, o.width)} if plain else {})
    gradients = {kind: outer(train, steps) for kind, train in engines.items()}
    times: dict[str, list[float]] = {kind: [] for kind in trainers}
    for _ in range(o.repeats):
        for kind, train in trainers.items():
            times[kind].append(seconds(lambda train=train: outer(train, steps)))
    off = (gradients["bf16"] - gradients["ours"]).norm() / gradients["ours"].norm()
    return {
        "images": images,
        "steps": steps,
        "ours_seconds": statistics.median(times["ours"]),
        "plain_seconds": statistics.median(times["plain"]) if plain else None,
        "ours_mib": mebibytes("ours", images, steps, o),
        "plain_mib": mebibytes(plain, images, steps, o) if plain else None,
        "bf16_seconds": statistics.median(times["bf16"]),
        "bf16_mib": mebibytes("bf16", images, steps, o),
        "bf16_gradient_off": off.item(),
    }


def faster_plain(o: argparse.Namespace) -> str:
    """Which plain unroll is faster on 10 images (5 steps); both are run alternately."""
    outer, times = OuterStep(10, o.width, o.device), {"published": [], "arithmetic": []}
    for _ in range(3):
        for kind, taken in times.items():
            taken.append(seconds(lambda kind=kind: outer(trainer(kind, o.width), 5)))
    found = {kind: statistics.median(taken) for kind, taken in times.items()}
    print("plain unroll, 10 images, N = 5: " + ", ".join(f"{kind} norm {s:.2f} s" for kind, s in found.items()))
    return min(found, key=found.get)


def plain_bytes(kind: str, images: int, steps: int, o: argparse.Namespace) -> float:
    """What the plain unroll would take, from its tensors at one and two steps."""
    from distill.memory import PeakMemory

    few = []
    for n in (1, 2):
        with PeakMemory() as counted:
            OuterStep(2, o.width, "cpu")(trainer(kind, o.width), n)
        few.append(counted.peak / 2)
    return images * (few[0] + (steps - 1) * (few[1] - few[0]))


def free_bytes(device: str) -> int:
    if device != "cpu":
        return torch.cuda.mem_get_info()[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def show(rows: list[dict], kind: str) -> None:
    print(f"\nplain: autograd, graphs kept, {kind} norm. ours: adjoint, compiled. MiB above each process's baseline")
    print(
        "images  steps   ours s  plain s  faster   ours MiB  plain MiB   part   bf16 s  faster  bf16 MiB  gradient off"
    )
    for r in rows:
        faster, faster16 = (
            f"{r['plain_seconds'] / r[kind]:.2f}x" if r["plain_seconds"] else "-"
            for kind in ("ours_seconds", "bf16_seconds")
        )
        part = f"1/{r['plain_mib'] / r['ours_mib']:.1f}" if r["plain_mib"] and r["ours_mib"] else "-"
        print(
            f"{r['images']:6d} {r['steps']:6d} {_figure(r['ours_seconds'], 2):>8} {_figure(r['plain_seconds'], 2):>8}"
            f" {faster:>7} {_figure(r['ours_mib'], 0):>10} {_figure(r['plain_mib'], 0):>10} {part:>6}"
            f" {_figure(r['bf16_seconds'], 2):>8} {faster16:>7} {_figure(r['bf16_mib'], 0):>9}"
            f" {r['bf16_gradient_off']:>13.3f}"
        )


def _figure(value: float | None, places: int) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def compile_cost(images: int, steps: int, o: argparse.Namespace) -> tuple[Callable, str]:
    """A compiled engine for so many images, and what compiling it cost (an empty cache) and when that is earned."""
    ours, outer = trainer("ours", o.width), OuterStep(images, o.width, o.device)
    first = seconds(lambda: outer(ours, 1))
    again = seconds(lambda: outer(ours, 1))
    eager = Unroll(InnerStep(network(o.width, published=False), SGD()), "device")
    outer(eager, 1)
    saved = statistics.median(seconds(lambda: outer(eager, 1)) - seconds(lambda: outer(ours, 1)) for _ in range(3))
    cost = first - again
    text = f"compiling for {images} images: {cost:.0f} s once"
    if saved <= 0:
        return ours, f"{text}; the compiled step is not faster than the eager one here"
    return ours, f"{text}; pays after {cost / (saved * steps):.0f} outer steps of {steps} (eager engine as the rival)"


def table(o: argparse.Namespace) -> list[dict]:
    kind, rows, compiled = faster_plain(o), [], {}
    for images, steps in QUICK if o.quick else CASES:
        if images not in compiled:
            ours, text = compile_cost(images, steps, o)
            compiled[images] = {"ours": ours, "bf16": trainer("bf16", o.width)}
            print(text, flush=True)
        needed = plain_bytes(kind, images, steps, o)
        fits = needed < 0.9 * free_bytes(o.device)
        if not fits:
            print(f"plain unroll at {images} images, N = {steps}: skipped, it needs about {needed / 2**30:.0f} GiB")
        rows.append(row(images, steps, compiled[images], kind if fits else None, o))
        print(json.dumps(rows[-1]), flush=True)
    show(rows, kind)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--quick", action="store_true", help="tiny network and few steps: does it run?")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    o = parser.parse_args()
    o.width = 8 if o.quick else 128
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.mkdtemp(prefix="unroll-benchmark-"))
    if o.measure:
        kind, *numbers = o.measure.split(",")
        images, steps, width = map(int, numbers)
        print(measure(kind, images, steps, width, o.device))
        return
    rows = table(o)
    if o.json:
        o.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
