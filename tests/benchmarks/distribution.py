"""Times a step of distribution matching against an eager loop over the classes, the published way, in the same run.

python tests/benchmarks/distribution.py [--json FILE] [--quick] [--case 10x10] [--device cuda]

One outer step, loss and gradient: 256 real images of each class at 10 classes and 32 at 100, 1 or 10 synthetic ones,
ConvNet-3 of width 128, 32 px, DSA shared by the real and synthetic images of a class, squared L2 distance of means.

    ours    objective.kind = "distribution" as long runs compute it: all classes in one pass, compiled, memory in large
            pages as workers take it (distill/engine/allocator.py)
    bf16    the same with objective.engine.bf16: its gradient differs, by the last column
    loop    for each class a forward pass of its real images and one of its synthetic ones, then one backward pass;
            eager, instance norm as GroupNorm, the system's memory

Each has a process of its own and they take turns. Seconds are medians of the wall clock; on the CPU there are beside
them medians of the processor's time, which other processes on the machine disturb less. Memory is the highest above
that of the made inputs. The three get the same draws, and the gradients of ours and loop must agree.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from support.growth import Growth  # noqa: E402
from torch import Tensor  # noqa: E402

from distill import nets, objectives, recipe, rng, synthetic  # noqa: E402
from distill.augment import augment  # noqa: E402
from distill.context import Context  # noqa: E402
from distill.data.base import Dataset, Split  # noqa: E402
from distill.engine import allocator  # noqa: E402

CASES = [(10, 1), (10, 10), (100, 1), (100, 10)]
QUICK = [(3, 2)]
KINDS = ("ours", "bf16", "loop")
SHAPE = (3, 32, 32)


def context_of(classes: int, ipc: int, bf16: bool, o: argparse.Namespace) -> Context:
    """Random images, as many as a step takes."""
    real, g = 8 if o.quick else 256 if classes <= 10 else 32, rng.generator(0, "images")
    y = torch.arange(classes).repeat_interleave(real)
    split = Split(torch.randn(len(y), *SHAPE, generator=g), y)
    data = Dataset(split, split, split, tuple(map(str, range(classes))), "0" * 64, lambda x: x).to(
        torch.device(o.device)
    )
    engine = {"compile": "off" if o.quick else "on", "bf16": bf16}
    table = {
        "name": "speed",
        "dataset": {"kind": "digits"},
        "network": {"depth": 3, "width": 8 if o.quick else 128},
        "synthetic": {"ipc": ipc},
        "objective": {"kind": "distribution", "batch_real": real, "engine": engine},
    }
    r = recipe.parse(table, "benchmark")
    network = nets.build(r.network, SHAPE, classes, bf16)
    return Context(r, data, network, torch.device(o.device))


# ---------------------------------------------------------------- the published way


def loop_loss(c: Context, x: Tensor, step: int) -> Tensor:
    """The loss of a step for images x (classes * ipc, c, h, w), ordered by class."""
    o, train, key = c.recipe.objective, c.data.train, ("distribution", step, 0)
    theta = c.network.layout.unflatten(c.network.init(rng.generator(c.seed, *key, "network")).to(x.device))
    total, ipc = 0.0, len(x) // c.classes
    for k in range(c.classes):
        rows = (train.y == k).nonzero().flatten()
        drawn = torch.randperm(len(rows), generator=rng.generator(c.seed, *key, "real", k))[: o.batch_real]
        seen = [train.x[rows[drawn.to(rows.device)]], x[k * ipc : (k + 1) * ipc]]
        real, ours = (augment(images, o.augment, rng.generator(c.seed, *key, "augment", k)) for images in seen)
        with torch.no_grad():
            target = embed(theta, real).mean(0)
        total = total + (target - embed(theta, ours).mean(0)).square().sum()
    return total


def embed(theta: dict[str, Tensor], x: Tensor) -> Tensor:
    for i in range(3):
        x = F.conv2d(x, theta[f"convs.{i}.weight"], theta[f"convs.{i}.bias"], padding=1)
        x = F.group_norm(x, x.shape[1], theta[f"norms.{i}.weight"], theta[f"norms.{i}.bias"])
        x = F.avg_pool2d(F.relu(x), 2)
    return x.flatten(1)


# ---------------------------------------------------------------- a process for each, taking turns


class Rival:
    """A process that takes steps of one kind and measures them when asked."""

    def __init__(self, kind: str, case: tuple[int, int], o: argparse.Namespace):
        command = [sys.executable, __file__, "--serve", kind, "--case", f"{case[0]}x{case[1]}", "--device", o.device]
        self.process = subprocess.Popen(
            [*command, *["--quick"] * o.quick], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def step(self, file: str = "-") -> dict[str, float]:
        """Take one step; its gradient goes into the file."""
        self.process.stdin.write(file + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def serve(kind: str, o: argparse.Namespace) -> None:
    """The other end of a Rival: a file or - in, a line of figures out. Every step has other draws."""
    if kind != "loop":
        allocator.settle()
    (classes, ipc), cuda = o.case[0], o.device != "cpu"
    c = context_of(classes, ipc, kind == "bf16", o)
    made, objective = synthetic.build(c), objectives.build(c)
    for step, line in enumerate(sys.stdin):
        if cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        wall, cpu = time.perf_counter(), time.process_time()
        with Growth() as growth:
            loss = loop_loss(c, made.x, step) if kind == "loop" else objective.loss(made, step, [0])
            (gradient,) = torch.autograd.grad(loss, made.x)
            if cuda:
                torch.cuda.synchronize()
        figures = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        figures["mib"] = (torch.cuda.max_memory_allocated() - before if cuda else growth.bytes) / 2**20
        if line.strip() != "-":
            save_file({"x": gradient.cpu().contiguous()}, line.strip())
        print(json.dumps(figures), flush=True)


def row(classes: int, ipc: int, o: argparse.Namespace) -> dict:
    rivals = {kind: Rival(kind, (classes, ipc), o) for kind in KINDS}
    gradients = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, rival in rivals.items():
            rival.step(f"{folder}/{kind}.safetensors")  # also compiles
            gradients[kind] = load_file(f"{folder}/{kind}.safetensors")["x"]
    taken = {kind: [] for kind in KINDS}
    for _ in range(o.repeats):
        for kind, rival in rivals.items():
            taken[kind].append(rival.step())
    for rival in rivals.values():
        rival.close()
    figures: dict = {"classes": classes, "ipc": ipc}
    for kind, steps in taken.items():
        for what in ("seconds", "cpu_seconds"):
            figures[f"{kind}_{what}"] = statistics.median(s[what] for s in steps)
        figures[f"{kind}_mib"] = max(s["mib"] for s in steps)
    exact = gradients["loop"]
    for kind in ("ours", "bf16"):
        figures[f"{kind}_gradient_off"] = ((gradients[kind] - exact).norm() / exact.norm()).item()
    if figures["ours_gradient_off"] > 1e-3:
        raise RuntimeError(f"the gradients of ours and of the loop differ: {figures['ours_gradient_off']:.2g}")
    return figures


def show(rows: list[dict]) -> None:
    print(f"\n{'':14}{'seconds':>26}{'faster':>18}{'processor: faster':>20}{'MiB':>24}{'gradient off':>18}")
    print(f"classes x ipc {'ours':>8} {'bf16':>8} {'loop':>8} {'ours':>9}{'bf16':>9}{'ours':>10}{'bf16':>10}", end="")
    print(f"{'ours':>8}{'bf16':>8}{'loop':>8}{'ours':>9}{'bf16':>9}")
    for r in rows:
        print(f"{r['classes']:>7} x {r['ipc']:<4}" + "".join(f"{r[f'{k}_seconds']:9.3f}" for k in KINDS), end=" ")
        for what, width in (("seconds", 8), ("cpu_seconds", 9)):
            print("".join(f"{r[f'loop_{what}'] / r[f'{k}_{what}']:{width}.2f}x" for k in ("ours", "bf16")), end="")
        print("".join(f"{r[f'{k}_mib']:8.0f}" for k in KINDS), end="")
        print(f"{r['ours_gradient_off']:9.1e}{r['bf16_gradient_off']:9.1e}")


def _case(text: str) -> tuple[int, int]:
    classes, ipc = text.split("x")
    return int(classes), int(ipc)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here: those of 10x10, and all rows")
    parser.add_argument("--quick", action="store_true", help="tiny and not compiled: does it run?")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--case", type=_case, action="append", help="CLASSESxIPC, e.g. 10x10 [default: all four]")
    parser.add_argument("--serve", choices=KINDS, help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.serve:
        return serve(o.serve, o)
    rows = []
    for classes, ipc in o.case or (QUICK if o.quick else CASES):
        rows.append(row(classes, ipc, o))
        print(json.dumps(rows[-1]), flush=True)
    show(rows)
    if o.json:
        first = next((r for r in rows if (r["classes"], r["ipc"]) == (10, 10)), rows[0])
        o.json.write_text(json.dumps({**first, "threads": torch.get_num_threads(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
