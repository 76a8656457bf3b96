"""What an outer step of trajectory matching costs in bytes and seconds: slices of a folder, of S3, or whole files.

    python tests/benchmarks/trajectories.py [--json FILE]

The step is the project's own (ConvNet-3, width 128, CIFAR-10's shape, 10 student steps on 10 images, forward and back)
on a set of 10 experts of 50 epochs with random values, 0.65 GB. S3 is a Ceph gateway on loopback. "Whole file" is the
published way: a file of ten experts is loaded when its turn comes and serves ten steps, one for each expert; its
seconds are those of a step and a tenth of a load. The file is warm in the page cache, which flatters it. The three take
turns, so that a busy machine is unfair to none; seconds are medians over the steps.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import torch  # noqa: E402
from safetensors.torch import load, save_file  # noqa: E402
from support.ceph import ceph_s3, missing_programs  # noqa: E402

from cluster.store import Store, open_store  # noqa: E402
from cluster.trajectories import ExpertRecord, Reader, SetSpec, TrajectorySet  # noqa: E402
from distill import nets, recipe, rng  # noqa: E402
from distill.context import Context  # noqa: E402
from distill.data.base import Dataset, Split  # noqa: E402
from distill.objectives.trajectory import Objective  # noqa: E402
from distill.synthetic import pixels  # noqa: E402

CPU = torch.device("cpu")


class WholeFile:
    """Ten experts in one file, read whole every ten steps."""

    def __init__(self, path: Path, reader: Reader):
        self.path, self.count, self.epochs = path, reader.count, reader.epochs
        self.seconds: list[float] = []
        save_file({f"{i}": torch.stack([reader.snapshot(i, e) for e in self.epochs]) for i in range(self.count)}, path)

    def begin(self, step: int) -> None:
        """Load the file if a step is the first of those that it serves; its experts before are let go first."""
        if step % self.count == 0:
            self.experts = None
            started = time.perf_counter()
            self.experts = load(self.path.read_bytes())  # load_file would map it, and read little
            self.seconds.append(time.perf_counter() - started)

    def snapshot(self, expert: int, epoch: int) -> torch.Tensor:
        return self.experts[str(expert)][self.epochs.index(epoch)].clone()

    def prefetch(self, wanted: list[tuple[int, int]]) -> None:
        """It is all here."""


class Steps:
    """Outer steps over one source of snapshots."""

    def __init__(self, context: Context, experts: Reader | WholeFile):
        context = context.with_experts(experts)
        self.experts, self.seconds = experts, []
        self.synthetic = pixels.build(context.recipe.synthetic, context)
        self.objective = Objective(context.recipe.objective, context)

    def run(self, step: int) -> None:
        if isinstance(self.experts, WholeFile):
            self.experts.begin(step)
        started = time.perf_counter()
        self.objective.loss(self.synthetic, step, range(1)).backward()
        self.seconds.append(time.perf_counter() - started)


def context_of(options: argparse.Namespace) -> Context:
    """CIFAR-10's shapes with random images."""
    table = {
        "name": "benchmark",
        "dataset": {"kind": "digits"},
        "network": {"width": options.width},
        "experts": {"count": options.experts, "epochs": options.epochs},
        "synthetic": {"kind": "pixels", "ipc": 1},
        "objective": {
            "kind": "trajectory",
            "syn_steps": options.syn_steps,
            "max_start_epoch": options.epochs - 2,
            "engine": {"compile": "off"},
        },
        "outer": {"steps": options.steps},
    }
    parsed = recipe.parse(table, "benchmark")
    split = Split(torch.randn(100, 3, 32, 32, generator=rng.generator(0, "images")), torch.arange(100) % 10)
    names = tuple(f"class {i}" for i in range(10))
    data = Dataset(split, split, split, names, "0" * 64, lambda x: x)
    return Context(parsed, data, nets.build(parsed.network, data.shape, 10, False), CPU)


def fill(store: Store, context: Context) -> tuple[Reader, dict[str, float]]:
    """A set of random experts, sealed; seconds of putting one, of sealing all, and of sealing by reading them."""
    network, count, epochs = context.network, context.recipe.experts.count, context.recipe.experts.epochs
    spec = SetSpec("0" * 16, "0" * 64, {}, list(network.layout.entries), list(range(epochs + 1)), "float32")
    experts, puts = TrajectorySet(store, "benchmark"), []
    for index in range(count):
        g = rng.generator(index, "expert")
        moves = 1e-3 * torch.randn(epochs + 1, network.layout.size, generator=g)
        accuracy = [0.5] * (epochs + 1)
        record = ExpertRecord(index, network.init(g) + moves.cumsum(0), accuracy, accuracy, 0)
        puts.append(_seconds(lambda record=record: experts.write_expert(spec, record)))
    seal = _seconds(lambda: experts.seal(spec, count))
    for entry in experts.entries():
        if entry.key.endswith(".json"):
            store.delete(entry.key, dry_run=False)
    by_reading = _seconds(lambda: experts.seal(spec, count))
    return experts.open(), {"put": statistics.median(puts), "seal": seal, "seal_by_reading": by_reading}


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def read_seconds(reader: Reader, steps: int) -> float:
    """Two snapshots with nothing read ahead: what a step waits for without the prefetcher."""
    taken = []
    for step in range(steps):
        started = time.perf_counter()
        for epoch in (step, step + 2):
            reader.snapshot(step % reader.count, reader.epochs[epoch % len(reader.epochs)])
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def measure(options: argparse.Namespace, local: Store, s3: Store, folder: Path) -> dict[str, float]:
    context = context_of(options)
    filled = {"local": fill(local, context), "s3": fill(s3, context)}
    readers = {name: reader for name, (reader, _) in filled.items()}
    whole = WholeFile(folder / "ten-experts.safetensors", readers["local"])
    runs = {name: Steps(context, source) for name, source in [*readers.items(), ("whole_file", whole)]}
    for run in runs.values():
        run.run(0)  # warm
        run.seconds.clear()
    before = readers["s3"].bytes_read
    for step in range(1, options.steps + 1):
        for run in _turned(list(runs.values()), step):
            run.run(step)
    for reader in readers.values():
        reader.close()
    seconds = {name: statistics.median(run.seconds) for name, run in runs.items()}
    load = statistics.median(whole.seconds)
    return {
        # One step's snapshots are read ahead in each step but for the last, whose wishes are for the next.
        "bytes_per_step": (readers["s3"].bytes_read - before) / options.steps,
        "snapshot_bytes": readers["s3"].spec.snapshot_bytes,
        "index_bytes": readers["s3"].index_bytes,
        "whole_file_bytes": whole.path.stat().st_size,
        "whole_file_bytes_per_step": whole.path.stat().st_size / whole.count,
        "local_seconds": seconds["local"],
        "s3_seconds": seconds["s3"],
        "whole_file_seconds": seconds["whole_file"] + load / whole.count,
        "whole_load_seconds": load,
        "s3_over_local": seconds["s3"] / seconds["local"],
        **{f"{name}_read_seconds": read_seconds(reader, options.steps) for name, reader in readers.items()},
        **{f"{name}_{what}_seconds": taken for name, (_, times) in filled.items() for what, taken in times.items()},
    }


def _turned(items: list, by: int) -> Iterator:
    return (items[(i + by) % len(items)] for i in range(len(items)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    for name, default in (("steps", 30), ("experts", 10), ("epochs", 50), ("width", 128), ("syn-steps", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    if missing := missing_programs():
        parser.exit(2, f"no {', '.join(missing)}: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with ceph_s3(folder / "ceph") as server:
            os.environ.update(server.env)
            s3 = open_store(f"s3://{server.bucket('benchmark')}/x")
            figures = measure(options, open_store(f"file:{folder}/store"), s3, folder)
    for name, value in figures.items():
        print(f"{name:26} {value:,.4g}" if name.endswith(("seconds", "local")) else f"{name:26} {value:,.0f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
