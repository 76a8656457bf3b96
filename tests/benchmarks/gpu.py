"""The GPU table of docs/results.md, in one command that fits into 8 minutes of a card.

python tests/benchmarks/gpu.py --out gpu-figures            # writes gpu.json and gpu.md there, after every figure
python tests/benchmarks/gpu.py --out /tmp/x --quick --device cpu        # does it run?

Parts in order of value, each in a process of its own that is ended when its share of the time is over; what it measured
by then is on the disk. A part that fails is named in the table and the next one starts.

    unroll        one outer step of trajectory matching, ConvNet-3 of width 128 on 32 px, 10 and 100 images, by N: the
                  compiled engine, with its kernels launched one by one, and in bfloat16; the engine uncompiled;
                  autograd with all graphs kept
    cifar100      the same at MTT's largest CIFAR recipe: 100 classes, 50 images each, N = 80, 125 images a step
    experts       experts per hour at the published settings (50 epochs of 50,000 images, DSA), several side by side
    recipes       outer steps per second of shipped recipes at their own settings, on random images and experts

Seconds are medians with the device synchronised; memory is the peak that PyTorch's allocator counts above what was
there before (on the CPU it is not measured). Kernels of steps are launched together (distill/engine/replay.py), but
not with "launches".
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent), str(Path(__file__).parent)]

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support import small  # noqa: E402
from torch import Tensor  # noqa: E402
from unroll import OuterStep, trainer  # noqa: E402

from distill import nets, recipe, rng, train  # noqa: E402
from distill.context import Context  # noqa: E402
from distill.data.base import Dataset, Split  # noqa: E402
from distill.engine import replay  # noqa: E402
from distill.loop import Loop, Watcher  # noqa: E402

Figure = dict[str, object]
CASES = [(images, steps) for images in (10, 100) for steps in (10, 20, 50)]
QUICK_CASES = [(4, 3), (4, 6)]
RECIPES = ("mtt-cifar10-10ipc", "datm-cifar10-10ipc", "dsa-cifar10-10ipc", "podd-cifar10-10")
PARTS = {
    "unroll-eager": 40, "unroll-compiled": 80, "unroll-launches": 60, "unroll-bf16": 70, "unroll-plain": 30,
    "cifar100": 60, "experts": 60,
    **{f"recipe-{name}": 20 for name in RECIPES},
}  # fmt: skip
"""Seconds that each part may take, of 480; what one leaves over goes to the others."""
KINDS = {"eager": "eager", "compiled": "ours", "launches": "ours", "bf16": "bf16", "plain": "published"}
"""Names of benchmarks/unroll.py. launches: as compiled, but each kernel is launched alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu-figures"), help="folder of gpu.json and gpu.md")
    parser.add_argument("--json", type=Path, help="also write the figures here at the end")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=480, help="for everything")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, separated by commas")
    parser.add_argument("--quick", action="store_true", help="tiny networks and few steps: does it run?")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.part:
        for figure in measure(o.part, o):
            print(json.dumps(figure), flush=True)
        return
    if o.device != "cpu" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; --device cpu --quick shows whether the benchmark runs")
    figures = collect(o)
    print(markdown(figures))
    if o.json:
        o.json.write_text(json.dumps(figures, indent=1))


def collect(o: argparse.Namespace) -> dict:
    """Run the parts one after another; the files are complete after every figure."""
    chosen, end = o.parts.split(","), time.monotonic() + o.seconds
    figures = {"device": device_name(o.device), "torch": torch.__version__, "figures": [], "missing": {}}
    shares = {name: PARTS[name] for name in chosen}
    while shares:
        name = next(iter(shares))
        left = end - time.monotonic()
        allowed = min(left, left * shares[name] / sum(shares.values()) + 5)
        del shares[name]
        ended = "no time was left" if allowed < 5 else run_part(name, allowed, o, figures)
        if ended:
            figures["missing"][name] = ended
        write(o.out, figures)
    return figures


def run_part(name: str, seconds: float, o: argparse.Namespace, figures: dict) -> str | None:
    """The figures of a part, as they come; why it did not come to its end, or None."""
    o.out.mkdir(parents=True, exist_ok=True)
    with (o.out / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command(name, o), stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
        # With its session: the compiler's helpers hold the other end of the pipe too.
        late = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
        late.start()
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    figures["figures"].append({"part": name, **json.loads(line)})
                    write(o.out, figures)
        finally:
            code = process.wait()
            in_time = late.is_alive()
            late.cancel()
    if code == 0:
        return None
    return f"failed, see {name}.log" if in_time else f"ended after {seconds:.0f} s"


def command(part: str, o: argparse.Namespace) -> list[str]:
    return [sys.executable, __file__, "--part", part, "--device", o.device, *["--quick"] * o.quick]


def write(folder: Path, figures: dict) -> None:
    """Both files, each replaced whole."""
    for name, text in (("gpu.json", json.dumps(figures, indent=1)), ("gpu.md", markdown(figures))):
        (folder / f".{name}").write_text(text)
        os.replace(folder / f".{name}", folder / name)


# ---------------------------------------------------------------- what is measured, in a process for each part


def measure(part: str, o: argparse.Namespace) -> Iterator[Figure]:
    torch.backends.cudnn.benchmark = True
    kind, _, name = part.partition("-")
    if kind == "unroll":
        yield from unroll(name, o)
    elif kind == "cifar100":
        yield from cifar100(o)
    elif kind == "experts":
        yield from experts(o)
    else:
        yield from outer_steps(name, o)


def unroll(kind: str, o: argparse.Namespace) -> Iterator[Figure]:
    width = 8 if o.quick else 128
    if kind == "launches":
        replay.MOST_KINDS = 0
    train_ = trainer(KINDS[kind], width)
    for images, steps in QUICK_CASES if o.quick else CASES:
        outer = OuterStep(images, width, o.device)
        yield {"images": images, "steps": steps, **timed(lambda o_=outer, n=steps: o_(train_, n), o)}


def cifar100(o: argparse.Namespace) -> Iterator[Figure]:
    """MTT at 50 images per class of CIFAR-100: N = 80 steps on 125 of 5,000 images."""
    classes, per_class, steps, batch = (4, 5, 3, 10) if o.quick else (100, 50, 80, 125)
    width = 8 if o.quick else 128
    g = torch.Generator().manual_seed(0)
    x = torch.randn(classes * per_class, 3, 32, 32, generator=g).to(o.device).requires_grad_()
    y = F.one_hot(torch.arange(classes).repeat_interleave(per_class), classes).float().to(o.device)
    rows = [torch.randperm(len(x), generator=g)[:batch].to(o.device) for _ in range(steps)]
    lr = torch.tensor(0.01, device=o.device, requires_grad=True)
    for kind, bf16 in (("eager", False), ("compiled", False), ("bf16", True))[: 1 if o.quick else 3]:
        network = nets.build(recipe.ConvNet(depth=3, width=width), (3, 32, 32), classes, bf16)
        theta = network.init(torch.Generator().manual_seed(0)).to(o.device)
        engine = engine_of(network, compiled=kind != "eager")

        def outer(theta: Tensor = theta, engine=engine) -> None:
            start = theta.clone().requires_grad_()
            end = engine(start, lr, lambda i: (x[rows[i]], y[rows[i]]), steps, [x])
            torch.autograd.grad((end - theta).square().sum(), [x, lr])

        yield {"kind": kind, "images": batch, "steps": steps, "classes": classes, **timed(outer, o)}


def engine_of(network: nets.Network, compiled: bool):
    from distill.engine.inner import SGD, InnerStep
    from distill.engine.unroll import Unroll

    return Unroll(InnerStep(network, SGD(), compiled=compiled), "device")


def experts(o: argparse.Namespace) -> Iterator[Figure]:
    """Experts per hour, from the seconds of one epoch: what `auto` chooses for a long training on this device."""
    images, epochs = (200, 50) if o.quick else (50_000, 50)
    quick = ["network.width=8", "experts.compile=off"] if o.quick else []
    for together in (1, 2) if o.quick else (1, 2, 4, 8):
        context = random_context(
            "mtt-cifar10-10ipc", o, images, f"experts.together={together}", "experts.count=8", *quick
        )
        step = train.expert_step(context, train.choose(context))
        at = [train.begin(context, step, list(range(together)))]

        def epoch(context=context, step=step, at=at) -> None:
            at[0] = next(train.epochs(context, step, at[0]))

        figure = timed(epoch, o)
        yield {"together": together, "per_hour": 3600 * together / (figure["seconds"] * epochs), **figure}


def outer_steps(name: str, o: argparse.Namespace) -> Iterator[Figure]:
    """Outer steps of a shipped recipe, everything but judging, pictures and checkpoints included."""
    quick = ["network.width=8", "synthetic={}", "synthetic.kind=pixels", "synthetic.ipc=1"] if o.quick else []
    quick += ["objective.syn_steps=2"] if o.quick and name.startswith("mtt") else []
    never = [f"outer.{what}_every=1000000" for what in ("evaluate", "picture", "checkpoint")]
    context = random_context(name, o, 200 if o.quick else 50_000, "experts.count=2", *quick, *never)
    loop = Loop(context, Watcher())
    if o.quick and not name.startswith("mtt"):
        return  # a step of the others takes minutes on a CPU; that the recipe can be set up is what --quick shows

    def step() -> None:
        loop.step()
        loop.done += 1

    figure = timed(step, o, repeats=2 if o.quick else 8)
    yield {"recipe": name, "per_second": 1 / figure["seconds"], **figure}


def random_context(name: str, o: argparse.Namespace, images: int, *overrides: str) -> Context:
    """A shipped recipe over random images of CIFAR's shape and random experts, on the device."""
    r = recipe.load(name, list(overrides))
    device, g = torch.device(o.device), rng.generator(0, "images")
    x, y = torch.randn(images, 3, 32, 32, generator=g), torch.arange(images) % 10
    few = Split(x[:100], y[:100])
    data = Dataset(Split(x, y), few, few, tuple(f"class {k}" for k in range(10)), "0" * 64, small.Preprocess())
    network = nets.build(r.network, (3, 32, 32), 10, False)
    known = small.MemoryExperts(network, min(2, r.experts.count), r.experts.epochs)
    return Context(r, data.to(device), network, device, known)


def timed(run: Callable[[], object], o: argparse.Namespace, repeats: int = 3) -> Figure:
    """Seconds of the first call, which compiles, and of the others (median); peak memory of those."""
    first = seconds(run, o.device)
    if o.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    taken = [seconds(run, o.device) for _ in range(repeats)]
    mib = (torch.cuda.max_memory_allocated() - before) / 2**20 if o.device != "cpu" else None
    return {"seconds": statistics.median(taken), "first": first, "mib": mib}


def seconds(run: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


# ---------------------------------------------------------------- the table


def markdown(figures: dict) -> str:
    """What is there so far, as it stands in docs/results.md."""
    by_part: dict[str, list[dict]] = {}
    for figure in figures["figures"]:
        by_part.setdefault(figure["part"], []).append(figure)
    text = [f"{figures['device']}, PyTorch {figures['torch']}; `python tests/benchmarks/gpu.py`.", ""]
    kinds = [kind for kind in KINDS if f"unroll-{kind}" in by_part]
    cases = sorted({(f["images"], f["steps"]) for kind in kinds for f in by_part[f"unroll-{kind}"]})
    if cases:
        rows = [
            [str(images), str(steps), *(cell(by_part[f"unroll-{kind}"], images=images, steps=steps) for kind in kinds)]
            for images, steps in cases
        ]
        text += table(["images", "N", *(f"{kind}: s, MiB" for kind in kinds)], rows)
    if found := by_part.get("cifar100"):
        rows = [[f["kind"], str(f["images"]), str(f["steps"]), cell([f])] for f in found]
        text += table(["CIFAR-100, 50 per class", "images a step", "N", "s, MiB"], rows)
    if found := by_part.get("experts"):
        rows = [[str(f["together"]), f"{f['per_hour']:.1f}", cell([f])] for f in found]
        text += table(["experts side by side", "experts per hour", "an epoch: s, MiB"], rows)
    if found := [f for part, several in by_part.items() if part.startswith("recipe-") for f in several]:
        rows = [[f"`{f['recipe']}`", f"{f['per_second']:.2f}", cell([f])] for f in found]
        text += table(["recipe", "outer steps per second", "s, MiB"], rows)
    text += [f"- {part}: {why}" for part, why in figures["missing"].items()]
    return "\n".join(text) + "\n"


def cell(found: list[dict], **wanted: int) -> str:
    """Seconds and memory of the figure that has these values."""
    for f in found:
        if all(f[key] == value for key, value in wanted.items()):
            return f"{f['seconds']:.3g}" + (f", {f['mib']:,.0f}" if f["mib"] is not None else "")
    return "-"


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *rows)] + [""]


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device != "cpu" else "CPU"


if __name__ == "__main__":
    main()
