"""Seconds and memory of one outer step on a poster, by the engine and by the plain unroll, which keeps every graph.

python tests/benchmarks/poster.py [--json FILE] [--quick] [--compile] [--width 16] [--batch 16] [--device cuda]

The poster is PoDD's for CIFAR-10 at 0.9 images per class (153x60, 16x6 patches, learned labels); the objective RaT-BPTT
with Adam inside, 60 of 200 and 100 of 300 steps, always the longest start, 500 real images. To fit a laptop the
network is a ConvNet-3 of width 16 and a step takes 16 patches; the paper's are 128 and 96. Both run eagerly, in
float32; --compile compiles the engine's steps. Seconds are medians of alternating runs after one of each.

Memory is the highest resident memory of a process of its own above its baseline, a short outer step done and freed
memory given back; on CUDA, the peak that the allocator counts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import torch  # noqa: E402
from support import small  # noqa: E402
from support.growth import Growth  # noqa: E402
from support.plain_unroll import PlainUnroll  # noqa: E402

from distill import nets, objectives, recipe, synthetic  # noqa: E402
from distill.context import Context  # noqa: E402
from distill.engine.inner import Adam  # noqa: E402

CASES = [(60, 200), (100, 300)]
QUICK = [(2, 6), (3, 8)]
REAL = 500


class OuterStep:
    """A poster and an objective; calling it gives the poster's and the labels' gradients."""

    def __init__(self, kind: str, window: int, unroll: int, o: argparse.Namespace):
        context = _context(window, unroll, o)
        self.synthetic, self.objective = synthetic.build(context), objectives.build(context)
        if kind == "plain":
            self.objective.unroll = PlainUnroll(context.network, Adam())

    def __call__(self) -> float:
        self.synthetic.zero_grad()
        loss = self.objective.loss(self.synthetic, 0, [0])
        loss.backward()
        return self.synthetic.x.grad.norm().item()


def _context(window: int, unroll: int, o: argparse.Namespace) -> Context:
    table = {
        "name": "benchmark",
        "dataset": {"kind": "digits"},
        "network": {"depth": 3, "width": o.width},
        "synthetic": {"kind": "poster", "ipc": 0.9, "width": 153, "height": 60, "patches_x": 16, "patches_y": 6,
                      "labels": {"mode": "learned"}},
        "objective": {"kind": "unrolled", "unroll": unroll, "window": window, "random": False, "batch_syn": o.batch,
                      "batch_real": REAL, "engine": {"compile": "on" if o.compile else "off"}},
    }  # fmt: skip
    device = torch.device(o.device)
    data = small.random_data(10, (3, 32, 32), n=REAL)
    r = recipe.override(table, [], "benchmark")
    return Context(r, data, nets.build(r.network, data.shape, 10), device)


def seconds(run) -> float:
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(kind: str, window: int, unroll: int, o: argparse.Namespace) -> int:
    """Bytes of one outer step above the baseline, in this process."""
    OuterStep(kind, 1, 2, o)()
    step = OuterStep(kind, window, unroll, o)
    if o.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with Growth() as growth:
        step()
    return growth.bytes


def mebibytes(kind: str, window: int, unroll: int, o: argparse.Namespace) -> float | None:
    """The same in a fresh process; None when it ran out of memory."""
    arguments = ["--measure", f"{kind},{window},{unroll}", "--width", str(o.width), "--batch", str(o.batch)]
    arguments += ["--device", o.device] + ["--compile"] * o.compile
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True)
    if done.returncode:
        print(f"{kind} at {window} of {unroll}: no figure\n{done.stderr[-500:]}", file=sys.stderr)
        return None
    return int(done.stdout.split()[-1]) / 2**20


def row(window: int, unroll: int, o: argparse.Namespace) -> dict:
    """One line of the table. Raises RuntimeError if the gradients of both differ.

    Checked over few steps: over hundreds, float32 rounding alone makes two trainings diverge.
    """
    norms = {kind: OuterStep(kind, *QUICK[-1], o)() for kind in ("ours", "plain")}
    if abs(norms["ours"] / norms["plain"] - 1) > 0.01:
        raise RuntimeError(f"gradients differ: {norms}")
    steps = {kind: OuterStep(kind, window, unroll, o) for kind in ("ours", "plain")}
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {kind: [] for kind in steps}
    for _ in range(o.repeats):
        for kind, step in steps.items():
            times[kind].append(seconds(step))
    figures = {"window": window, "unroll": unroll, "width": o.width, "batch": o.batch, "compiled": o.compile}
    figures |= {f"{kind}_seconds": statistics.median(taken) for kind, taken in times.items()}
    figures |= {f"{kind}_mib": mebibytes(kind, window, unroll, o) for kind in steps}
    return figures | {
        "faster": figures["plain_seconds"] / figures["ours_seconds"],
        "smaller": figures["plain_mib"] / figures["ours_mib"] if figures["plain_mib"] and figures["ours_mib"] else None,
    }


def show(rows: list[dict]) -> None:
    print("\nwindow  ours s  plain s  faster   ours MiB  plain MiB  smaller")
    for r in rows:
        mib = "".join(f"{r[k]:11.0f}" if r[k] else "          -" for k in ("ours_mib", "plain_mib"))
        smaller = f"{r['smaller']:8.1f}x" if r["smaller"] else "        -"
        seconds = f"{r['ours_seconds']:7.2f} {r['plain_seconds']:8.2f} {r['faster']:6.1f}x"
        print(f"{r['window']:3d}/{r['unroll']:3d} {seconds} {mib}{smaller}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--quick", action="store_true", help="few steps: does it run?")
    parser.add_argument("--compile", action="store_true", help="compile the engine's steps")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.measure:
        kind, window, unroll = o.measure.split(",")
        print(measure(kind, int(window), int(unroll), o))
        return
    rows = [row(window, unroll, o) for window, unroll in (QUICK if o.quick else CASES)]
    show(rows)
    if o.json:
        o.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
