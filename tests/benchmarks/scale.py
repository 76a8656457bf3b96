"""How expert generation scales: storage, requests and cost from the layouts, time by simulating the hand-out.

    python tests/benchmarks/workers.py --json workers.json
    python tests/benchmarks/scale.py --measured workers.json [--plot docs/pictures/scale.png] [--json FILE]

Storage is the real object of one expert (encoded, not estimated), times the experts. Time is a discrete simulation of
what cluster/jobs/experts.py does: workers start as one group, take the next expert each, train it, put it, ask again; a
killed worker restarts the group, which resumes from the experts' saved states; then the set is sealed. Shown with
the speed-up measured with one and two workers.
"""

import argparse
import heapq
import json
import statistics
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import torch  # noqa: E402

from cluster.trajectories import ExpertRecord, SetSpec  # noqa: E402
from cluster.trajectories.format import ExpertIndex, encode  # noqa: E402
from cluster.trajectories.manifest import Manifest, dump  # noqa: E402
from distill import nets, recipe  # noqa: E402

EXPERTS, EPOCHS = 200, 50
DATASETS = {
    "CIFAR-10, ConvNet-3": (3, 32, 10),
    "Tiny ImageNet, ConvNet-4": (4, 64, 200),
    "ImageNet-128, ConvNet-5": (5, 128, 10),
}
"""Name: depth, side in pixels, classes; width 128."""

# Public list prices of S3 Standard in us-east-1, in dollars: an assumption, to be replaced by one's own.
PER_GB_MONTH, PER_PUT, PER_GET, PER_GB_OUT = 0.023, 0.005 / 1000, 0.0004 / 1000, 0.09
PUT_BYTES, PART_BYTES = 64 << 20, 16 << 20  # cluster/store/s3.py: larger objects go in parts
STATE_EVERY = 10  # epochs, experts.state_every


# ---------------------------------------------------------------- storage, requests, cost


@dataclass(frozen=True)
class Storage:
    """What 200 experts take in the store, and what writing and using them costs."""

    name: str
    dtype: str
    parameters: int
    snapshot_bytes: int
    object_bytes: int
    total_bytes: int
    manifest_bytes: int
    write_requests: int
    dollars_to_write: float
    dollars_per_month: float
    gets_per_run: int
    gb_per_run: float
    dollars_per_run: float
    dollars_per_run_elsewhere: float


def storage(name: str, dtype: str, steps: int = 5000) -> Storage:
    """One row: an expert is encoded as it would be, with zeros for parameters; `steps` outer steps of one segment."""
    depth, side, classes = DATASETS[name]
    network = nets.build(recipe.ConvNet(depth=depth, width=128), (3, side, side), classes)
    settings = recipe.ConvNet(depth=depth, width=128).model_dump(mode="json")
    epochs = list(range(EPOCHS + 1))
    spec = SetSpec("0" * 16, "0" * 64, settings, list(network.layout.entries), epochs, dtype)
    accuracy = [1 / 3] * len(epochs)
    one = len(encode(spec, ExpertRecord(0, torch.zeros(len(epochs), spec.size), accuracy, accuracy, 0)))
    index = ExpertIndex(one, "0" * 64, [(one, spec.snapshot_bytes, "0" * 64)] * len(epochs), accuracy, accuracy, 0)
    manifest = len(dump(Manifest(spec, [index] * EXPERTS), "convnet-0123456789abcdef"))
    states = [one * epoch // EPOCHS for epoch in range(STATE_EVERY, EPOCHS, STATE_EVERY)]
    puts = EXPERTS * (sum(map(_puts, [one, *states])) + 1) + 2  # and its index; the manifest, what the set is called
    gets = 2 * steps + 1
    read = (2 * steps * spec.snapshot_bytes + manifest) / 1e9
    return Storage(
        name, dtype, spec.size, spec.snapshot_bytes, one, EXPERTS * one, manifest,
        puts + EXPERTS, puts * PER_PUT + EXPERTS * PER_GET, EXPERTS * one / 1e9 * PER_GB_MONTH,
        gets, read, gets * PER_GET, gets * PER_GET + read * PER_GB_OUT,
    )  # fmt: skip


def _puts(size: int) -> int:
    """Requests to put an object of this size: one, or in parts: existence check, begin, the parts, complete."""
    return 3 + -(-size // PART_BYTES) if size >= PUT_BYTES else 1


# ---------------------------------------------------------------- time


@dataclass(frozen=True)
class Cluster:
    """Parameters of the simulation, in seconds."""

    expert: float
    """Training one expert on an undisturbed node."""
    begin: float = 25.0
    """From the command to the group's start: Ray, the scheduler, the first imports."""
    begin_each: float = 0.05
    """More for each worker of the group."""
    node_spread: float = 0.05
    """Relative deviation of nodes' speeds."""
    expert_spread: float = 0.02
    """Relative deviation of experts on one node."""
    slow_share: float = 0.05
    """Part of the nodes that take twice as long."""
    put: float = 1.0
    """Sending one expert."""
    hand_out: float = 0.01
    """One call of the board."""
    seal: float = 6.0
    """After the last expert: reading 200 small indexes, writing the manifest."""
    saved: float = 0.2
    """Part of an expert that is lost when its worker is killed, at most: the time between saved states."""
    mtbf: float = float("inf")
    """Mean seconds between two kills of one node."""


def seconds(c: Cluster, workers: int, experts: int, seed: int, dynamic: bool = True) -> float:
    """One simulated job. Static hand-out gives every worker its share at the beginning."""
    g = np.random.default_rng([seed, workers])
    speed = g.normal(1, c.node_spread, workers).clip(0.5) * np.where(g.random(workers) < c.slow_share, 2, 1)
    start = c.begin + c.begin_each * workers

    def work(node: int) -> float:
        return c.hand_out + c.expert * speed[node] * max(0.5, g.normal(1, c.expert_spread)) + c.put

    if not dynamic:
        return max(start + sum(work(n) for _ in range(n, experts, workers)) for n in range(workers)) + c.seal
    return _dynamic(c, workers, experts, start, work, g) + c.seal


def _dynamic(c: Cluster, workers: int, experts: int, start: float, work, g) -> float:
    """When the last expert is there. A kill stops every worker: each loses what it had not saved, all start again."""
    waiting, kill = [1.0] * experts, start + g.exponential(c.mtbf / workers)
    while True:
        running: list[tuple[float, int, float, float]] = []  # (end, worker, begun, part of an expert)
        for node in range(min(workers, len(waiting))):
            part = waiting.pop()
            heapq.heappush(running, (start + part * work(node), node, start, part))
        while running and running[0][0] <= kill:
            now, node, *_ = heapq.heappop(running)
            if waiting:
                part = waiting.pop()
                heapq.heappush(running, (now + part * work(node), node, now, part))
        if not running:
            return now
        waiting += [_left(part, (kill - begun) / (end - begun), c.saved) for end, _, begun, part in running]
        start = kill + c.begin + c.begin_each * workers
        kill = start + g.exponential(c.mtbf / workers)


def _left(part: float, done: float, step: float) -> float:
    """What is left of an expert that was killed when `done` of `part` was trained, saved in steps of an expert."""
    kept = (1 - part + part * done) // step * step
    return min(part, 1 - kept)


def median(c: Cluster, workers: int, experts: int, dynamic: bool = True) -> float:
    return statistics.median(seconds(c, workers, experts, seed, dynamic) for seed in range(JOBS))


WORKERS, JOBS = (1, 2, 4, 8, 16, 25, 32, 50, 64, 100, 128, 200, 256), 25


def curves(c: Cluster, experts: int) -> dict[str, dict[int, float]]:
    """Speed-up over one worker on an undisturbed node, by variant and number of workers."""
    variants = {
        "dynamic hand-out": (c, True),
        "static shares": (c, False),
        "dynamic, a kill per node every 24 h": (replace(c, mtbf=24 * 3600.0), True),
    }
    alone = median(replace(c, slow_share=0.0, node_spread=0.0), 1, experts)
    return {
        name: {n: alone / median(cluster, n, experts, dynamic) for n in WORKERS}
        for name, (cluster, dynamic) in variants.items()
    }


# ---------------------------------------------------------------- the page


def draw(results: dict[str, dict], path: Path) -> None:
    """Speed-up against workers, one panel for each job; dots are what was measured here."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * len(results), 4.6), dpi=100, layout="constrained")
    ticks = [2**i for i in range(9)]
    for axes, (title, job) in zip(figure.subplots(1, len(results), sharey=True), results.items(), strict=True):
        axes.plot(ticks, ticks, color="0.75", linewidth=1, label="as many times as workers")
        for style, (name, curve) in zip(("-", "--", ":"), job["speedup"].items(), strict=True):
            axes.plot(curve.keys(), curve.values(), style, color="#1f77b4", label=name)
        if job["measured"]:
            axes.plot(*zip(*job["measured"].items(), strict=True), "o", color="#d95f02", label="measured here")
        axes.axvline(job["experts"], color="0.85", linewidth=6, zorder=0)
        axes.set(xscale="log", yscale="log", xlabel="workers", title=title, ylim=(0.8, 256))
        axes.set_xticks(ticks, map(str, ticks))
        axes.set_yticks(ticks, map(str, ticks))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=9, loc="upper left")
    figure.axes[0].set_ylabel("times as fast as one worker")
    figure.savefig(path)


def jobs(measured: list[dict]) -> dict[str, dict]:
    """Title: experts, simulated speed-ups, and measured ones for the job that was measured."""
    results = {}
    for text, expert in (("2.4 min (MTT: 8 GPU hours)", 144.0), ("40 min (2 CPU cores)", 2400.0)):
        results[f"{EXPERTS} experts of {text}"] = {
            "experts": EXPERTS, "speedup": curves(Cluster(expert=expert), EXPERTS), "measured": {}
        }  # fmt: skip
    if measured:
        one, count = measured[0], measured[0]["count"]
        begin, seal = one["begin"], one["seal"] + one["end"]
        small = Cluster(one["expert"], begin, 0.0, put=0.0, seal=seal)
        times = {row["workers"]: one["seconds"] / row["seconds"] for row in measured}
        title = f"{count} experts of {one['expert']:.0f} s (measured job)"
        results[title] = {"experts": count, "speedup": curves(small, count), "measured": times}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--plot", type=Path, help="draw speed-up against workers")
    parser.add_argument("--measured", type=Path, help="rows that tests/benchmarks/workers.py wrote")
    o = parser.parse_args()
    rows = [asdict(storage(name, dtype)) for name in DATASETS for dtype in ("float32", "bfloat16")]
    for key in rows[0]:
        print(f"{key:28}", *(f"{v:>21,.4g}" if isinstance(v, float) else f"{v:>21}" for v in (r[key] for r in rows)))
    results = jobs(json.loads(o.measured.read_text()) if o.measured else [])
    for title, job in results.items():
        print(f"\n{title}")
        for name, curve in job["speedup"].items():
            print(f"  {name:36}", *(f"{n}: {faster:.1f}" for n, faster in curve.items()))
        if job["measured"]:
            print("  measured:", *(f"{n}: {faster:.2f}" for n, faster in job["measured"].items()))
    if o.plot:
        draw(results, o.plot)
    if o.json:
        o.json.write_text(json.dumps({"storage": rows, "jobs": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
