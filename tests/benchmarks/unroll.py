"""Times and measures the engine against the plain unroll, which keeps the graph of every step, in the same run.

python tests/benchmarks/unroll.py [--json FILE] [--quick] [--case 100x10] [--device cuda]

One outer step: N inner SGD steps of ConvNet-3 (width 128, 32 px, float32) on the same images, then the gradient for the
pixels and the learning rate. Each rival has a process of its own, and they take turns; seconds are medians.

    ours        the compiled inner step, memory in large pages as our workers take it (distill/engine/allocator.py)
    bf16        the same with bfloat16 autocast of the student (`engine.bf16`), which is another arithmetic: the last
                column says how far its gradient is from the float32 one
    plain       autograd in eager mode with the system's memory, with the norm of the published codes (GroupNorm kernel,
                contiguous) or with ours (arithmetic, channels last), whichever is faster at 10 images
    plain+      plain with large pages too, which no published code has: how much of the difference is the memory's

Memory is the highest resident memory of a process above its baseline: inputs made, one outer step of N = 1 done
(libraries loaded, compiled code read from the cache that the timing run filled), freed memory given back.
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
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from support.growth import Growth  # noqa: E402
from support.plain_unroll import PlainUnroll  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch._dynamo.utils import counters  # noqa: E402

from distill import nets, recipe  # noqa: E402
from distill.engine import allocator  # noqa: E402
from distill.engine.inner import SGD, InnerStep  # noqa: E402
from distill.engine.unroll import Unroll  # noqa: E402
from distill.nets import Network  # noqa: E402

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
    """ours, bf16, eager (ours uncompiled), published or arithmetic (plain unrolls); a + behind it: in large pages."""
    if kind in ("ours", "bf16", "eager"):
        network_ = network(width, published=False, bf16=kind == "bf16")
        return Unroll(InnerStep(network_, SGD(), compiled=kind != "eager"), "device")
    if kind.startswith("published"):
        return ContiguousPlain(network(width, published=True), SGD())
    return PlainUnroll(network(width, published=False), SGD())


def in_large_pages(kind: str) -> bool:
    return kind in ("ours", "bf16", "eager") or kind.endswith("+")


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


# ---------------------------------------------------------------- time: a process for each rival, taking turns


class Rival:
    """A process that holds one engine and times outer steps when asked."""

    def __init__(self, kind: str, o: argparse.Namespace):
        command = [sys.executable, __file__, "--serve", kind, "--device", o.device]
        command += ["--quick"] if o.quick else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, images: int, steps: int) -> float:
        """Of one outer step."""
        return self._ask(f"{images} {steps} -")

    def gradient(self, images: int, steps: int) -> Tensor:
        """Of the pixels, after one outer step."""
        with tempfile.TemporaryDirectory() as folder:
            self._ask(f"{images} {steps} {folder}/x.safetensors")
            return load_file(f"{folder}/x.safetensors")["x"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def _ask(self, question: str) -> float:
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def serve(kind: str, o: argparse.Namespace) -> None:
    """The other end of a Rival: one line in, `images steps file-or-dash`; one line out, the seconds it took."""
    if in_large_pages(kind):
        allocator.settle()
    train, outers = trainer(kind, o.width), {}
    for line in sys.stdin:
        images, steps, file = line.split()
        outer = outers.setdefault(images, OuterStep(int(images), o.width, o.device))
        results: list[Tensor] = []
        taken = seconds(lambda outer=outer, n=int(steps), results=results: results.append(outer(train, n)))
        if file != "-":
            save_file({"x": results[0].cpu().contiguous()}, file)
        print(taken, flush=True)


# ---------------------------------------------------------------- memory: one process per figure


def measure(kind: str, images: int, steps: int, width: int, device: str) -> int:
    """Bytes above the baseline, in this process."""
    if in_large_pages(kind):
        allocator.settle()
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


def row(images: int, steps: int, rivals: dict[str, Rival], plain: str, o: argparse.Namespace) -> dict:
    """Medians of rivals in turn; the plain ones are None where they would not fit."""
    fits = (needed := plain_bytes(plain, images, steps, o)) < 0.9 * free_bytes(o.device)
    if not fits:
        print(f"plain unroll at {images} images, N = {steps}: skipped, it needs about {needed / 2**30:.0f} GiB")
    kinds = ["ours", "bf16", *([plain, f"{plain}+"] if fits else [])]
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(o.repeats):
        for kind in kinds:
            times[kind].append(rivals[kind].seconds(images, steps))
    exact, off = (rivals[kind].gradient(images, steps) for kind in ("ours", "bf16"))
    middle = {kind: statistics.median(taken) for kind, taken in times.items()}
    return {
        "images": images,
        "steps": steps,
        "ours_seconds": middle["ours"],
        "plain_seconds": middle.get(plain),
        "ours_mib": mebibytes("ours", images, steps, o),
        "plain_mib": mebibytes(plain, images, steps, o) if fits else None,
        "plain_large_pages_seconds": middle.get(f"{plain}+"),
        "bf16_seconds": middle["bf16"],
        "bf16_mib": mebibytes("bf16", images, steps, o),
        "bf16_gradient_off": ((off - exact).norm() / exact.norm()).item(),
    }


def faster_plain(rivals: dict[str, Rival]) -> str:
    """Which plain unroll is faster on 10 images (5 steps); both are run in turn."""
    times = {"published": [], "arithmetic": []}
    for _ in range(3):
        for kind, taken in times.items():
            taken.append(rivals[kind].seconds(10, 5))
    medians = {kind: statistics.median(taken) for kind, taken in times.items()}
    print("plain unroll, 10 images, N = 5: " + ", ".join(f"{kind} norm {s:.2f} s" for kind, s in medians.items()))
    return min(medians, key=medians.get)


def plain_bytes(kind: str, images: int, steps: int, o: argparse.Namespace) -> float:
    """What the plain unroll would take, from its tensors at one and two steps."""
    from distill.cost.memory import PeakMemory

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
    title = f"plain: autograd, graphs kept, {kind} norm; ours: adjoint, compiled; MiB above each process's baseline"
    heads = ("images", "N", "ours s", "plain s", "faster", "plain+ s", "faster", "ours MiB", "plain MiB", "part")
    table = Table(*heads, "bf16 s", "faster", "bf16 MiB", "gradient off", title=title)
    for r in rows:
        part = f"1/{r['plain_mib'] / r['ours_mib']:.1f}" if r["plain_mib"] and r["ours_mib"] else "-"
        cells = [str(r["images"]), str(r["steps"]), _figure(r["ours_seconds"], 2)]
        for plain in ("plain_seconds", "plain_large_pages_seconds"):
            cells += [_figure(r[plain], 2), _times(r, plain, "ours_seconds")]
        cells += [_figure(r["ours_mib"], 0), _figure(r["plain_mib"], 0), part]
        cells += [_figure(r["bf16_seconds"], 2), _times(r, "plain_seconds", "bf16_seconds")]
        table.add_row(*cells, _figure(r["bf16_mib"], 0), f"{r['bf16_gradient_off']:.3f}")
    Console(width=160).print(table)


def _times(r: dict, slow: str, fast: str) -> str:
    return f"{r[slow] / r[fast]:.2f}x" if r[slow] else "-"


def _figure(value: float | None, places: int) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def compile_cost(images: int, steps: int, rivals: dict[str, Rival]) -> str:
    """What compiling the engine for `images` images costs (empty cache), and after how many steps it pays."""
    first, again = (rivals["ours"].seconds(images, 1) for _ in range(2))
    rivals["eager"].seconds(images, 1)
    saved = statistics.median(rivals["eager"].seconds(images, 1) - rivals["ours"].seconds(images, 1) for _ in range(3))
    text = f"compiling for {images} images: {first - again:.0f} s once"
    if saved <= 0:
        return f"{text}; the compiled step is not faster than the eager one here"
    return (
        f"{text}; pays after {(first - again) / (saved * steps):.0f} outer steps of {steps} (rival: the eager engine)"
    )


def table(o: argparse.Namespace) -> list[dict]:
    rivals = {kind: Rival(kind, o) for kind in ("ours", "bf16", "eager", "published", "arithmetic")}
    kind, rows, seen = faster_plain(rivals), [], set()
    rivals[f"{kind}+"] = Rival(f"{kind}+", o)
    for images, steps in QUICK if o.quick else o.case or CASES:
        if images not in seen:
            print(compile_cost(images, steps, rivals), flush=True)
            for warmed in ("bf16", kind, f"{kind}+"):
                rivals[warmed].seconds(images, 1)
        seen.add(images)
        rows.append(row(images, steps, rivals, kind, o))
        print(json.dumps(rows[-1]), flush=True)
    for rival in rivals.values():
        rival.close()
    show(rows, kind)
    return rows


def _case(text: str) -> tuple[int, int]:
    images, steps = text.split("x")
    return int(images), int(steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--quick", action="store_true", help="tiny network and few steps: does it run?")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", type=_case, action="append", help="IMAGESxSTEPS, e.g. 100x10 [default: all six]")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    o = parser.parse_args()
    o.width = 8 if o.quick else 128
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.mkdtemp(prefix="unroll-benchmark-"))
    if o.measure:
        kind, *numbers = o.measure.split(",")
        images, steps, width = map(int, numbers)
        print(measure(kind, images, steps, width, o.device))
        return
    if o.serve:
        return serve(o.serve, o)
    rows = table(o)
    if o.json:
        o.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
