"""What glibc's allocator holds beyond the tensors of an outer step, and what it costs to make it give memory back.

    python tests/benchmarks/allocator.py [--json FILE]

One outer step of trajectory matching (ConvNet-3, width 128, 32 px, 100 images, N = 5, eager, one thread) in processes
of their own, one for each setting in turn. Counted: tensors alive at the peak (cost/memory.py). Resident: the high
water of the process above its baseline. Seconds are CPU seconds of the process, system time included, so that a busy
machine does not blur them; medians over processes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import torch  # noqa: E402
from support.growth import Growth  # noqa: E402

from distill import nets, recipe  # noqa: E402
from distill.cost.memory import PeakMemory  # noqa: E402
from distill.engine.inner import SGD, InnerStep  # noqa: E402
from distill.engine.unroll import Unroll  # noqa: E402

GLIBC = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # large pages, where the kernel gives them on request
TORCH = {"THP_MEM_ALLOC_ENABLE": "1"}  # the same for PyTorch's tensors alone
SMALL, MIDDLE = {"MALLOC_MMAP_THRESHOLD_": "65536"}, {"MALLOC_MMAP_THRESHOLD_": "4194304"}
SETTINGS = {
    "default": {},
    "mmap 64 kB": SMALL,
    "huge pages (glibc)": GLIBC,
    "both": GLIBC | SMALL,
    "huge (glibc), 4 MB": GLIBC | MIDDLE,
    "huge pages (torch)": TORCH,
    "huge (torch), 4 MB": TORCH | MIDDLE,
}


class OuterStep:
    """Inputs of one outer step; calling it computes the gradient of the pixels."""

    def __init__(self, o: argparse.Namespace):
        network = nets.build(recipe.ConvNet(depth=3, width=o.width), (3, 32, 32), 10)
        g = torch.Generator().manual_seed(0)
        self.unroll, self.steps = Unroll(InnerStep(network, SGD()), "device"), o.syn_steps
        self.theta, self.lr = network.init(g), torch.tensor(0.01, requires_grad=True)
        self.x = torch.randn(o.images, 3, 32, 32, generator=g).requires_grad_()
        self.y = torch.full((o.images, 10), 0.1)

    def __call__(self) -> None:
        end = self.unroll(self.theta, self.lr, lambda i: (self.x, self.y), self.steps, [self.x])
        (end - self.theta).square().sum().backward()


def measure(o: argparse.Namespace) -> dict:
    """This process: a step to warm up, then timed ones, then one whose tensors are counted."""
    torch.set_num_threads(1)
    step, taken = OuterStep(o), []
    step()
    with Growth() as growth:
        for _ in range(o.repeats):
            started = time.process_time()
            step()
            taken.append(time.process_time() - started)
    with PeakMemory() as counted:
        step()
    return {"counted": counted.peak, "resident": growth.bytes, "cpu_seconds": statistics.median(taken)}


def in_process(setting: dict[str, str], o: argparse.Namespace) -> dict:
    """The same in a fresh process with these variables."""
    numbers = [f"--{name}={getattr(o, name.replace('-', '_'))}" for name in ("images", "syn-steps", "width", "repeats")]
    command = [sys.executable, __file__, "--measure", *numbers]
    done = subprocess.run(command, env={**os.environ, **setting}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def table(o: argparse.Namespace) -> list[dict]:
    """A row for each setting; its processes take turns with those of the others."""
    runs = {name: [] for name in SETTINGS if not o.only or name in o.only}
    for _ in range(o.processes):
        for name, measured in runs.items():
            measured.append(in_process(SETTINGS[name], o))
    rows = []
    for name, measured in runs.items():
        median = {key: statistics.median(run[key] for run in measured) for key in measured[0]}
        rows.append({"setting": name, **median, "resident_over_counted": median["resident"] / median["counted"]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    defaults = {"images": 100, "syn-steps": 5, "width": 128, "repeats": 3, "processes": 3}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", nargs="*", choices=SETTINGS, help="these settings alone, the first for comparison")
    o = parser.parse_args()
    if o.measure:
        return print(json.dumps(measure(o)))
    rows = table(o)
    print(f"{'setting':20} {'counted MB':>11} {'resident MB':>12} {'ratio':>6} {'CPU s':>7} {'against default':>16}")
    for row in rows:
        slower = row["cpu_seconds"] / rows[0]["cpu_seconds"] - 1
        print(
            f"{row['setting']:20} {row['counted'] / 1e6:11.0f} {row['resident'] / 1e6:12.0f} "
            f"{row['resident_over_counted']:6.2f} {row['cpu_seconds']:7.2f} {100 * slower:15.1f}%"
        )
    if o.json:
        o.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
