"""Times whole outer steps against the published codes themselves, run from checkouts that you have, in the same run.

python tests/benchmarks/peers.py --mtt PATH --dm PATH --rat PATH [--json FILE] [--bf16] [--case mtt-10] [--repeats 5]

Each path is a clone of the authors' repository; a case without its path is skipped. Nothing of their code is here:
their own main program runs unchanged, on random images of CIFAR-10's size, in a process of its own, and is stopped
between two outer steps until it is its turn again. One outer step is all that their loop and ours do for one update of
the set, augmentation and the outer optimiser included; nothing is judged. All train ConvNet-3 of width 128 in float32
on one thread.

    mtt-10, mtt-100   github.com/GeorgeCazenavette/mtt-distillation: 20 student steps on 10 or 100 images, full DSA
    dm                github.com/VICO-UoE/DatasetCondensation: 10 classes of 10 synthetic and 256 real images, full DSA
    rat               github.com/fengyzpku/Simple_Dataset_Distillation (RaT-BPTT), which needs `pip install higher`: 20
                      of 60 Adam steps on 10 images are differentiated, then the loss of 1,000 real images

In the peer's process these packages are stand-ins that do nothing, since no measured step uses them: torchvision (whose
CIFAR-10 is replaced by random images), wandb, kornia, h5py, torch_optimizer, scipy's removed `ndimage.interpolation`;
without a GPU, `.cuda()` is the identity. Ours is compiled, as long runs are, with memory in large pages as workers take
it; with --bf16 also in bfloat16. Figures are medians of steps in turns: seconds of the clock, seconds of the
processor, which other work on the machine disturbs less, and the highest resident memory of the process in a step.
"""

import argparse
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import torch  # noqa: E402
from support.growth import Growth  # noqa: E402

SHAPE, CLASSES = (3, 32, 32), 10
STEPS = 20
"""Steps of a student that matches experts."""
REAL = {"mtt": 10, "dm": 256, "rat": 100}
"""Real images of each class."""
UNROLL, WINDOW = 60, 20
"""Steps of a student that learns to have a low loss, and how many of them, the last, are differentiated."""
CASES = {"mtt-10": "mtt", "mtt-100": "mtt", "dm": "dm", "rat": "rat"}
"""Cases, and the option that has the checkout they need."""
MAIN = {"mtt": "distill.py", "dm": "main_DM.py", "rat": "main.py"}
"""The main program of a checkout."""


class Turns:
    """Stops a loop at the beginning of each outer step until the parent process asks for one, and measures it."""

    def __init__(self):
        self.answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what the program prints is no answer
        self.growth: Growth | None = None

    def next(self, *ignored: object) -> None:
        """One outer step ended here, if one had begun; the next begins when this returns."""
        if self.growth:
            figures = {
                "seconds": time.perf_counter() - self.wall,
                "cpu_seconds": time.process_time() - self.cpu,
            }
            self.growth.__exit__()
            figures["mib"] = (self.growth.before + self.growth.bytes) / 2**20
            print(json.dumps(figures), file=self.answers, flush=True)
        if not sys.stdin.readline():
            os._exit(0)  # programs that train for days end here
        self.growth = Growth().__enter__()
        self.wall, self.cpu = time.perf_counter(), time.process_time()


# ---------------------------------------------------------------- ours


def ours(case: str, turns: Turns, bf16: bool) -> None:
    """Outer steps of our loop."""
    from distill import nets, recipe  # here, as a peer's process must not load what only ours needs
    from distill.context import Context
    from distill.data.base import Dataset, Split
    from distill.engine import allocator
    from distill.loop import Loop, Watcher
    from distill.plan.clock import RandomExperts

    allocator.settle()
    real = REAL[CASES[case]]
    objective = {
        "mtt": {"kind": "trajectory", "syn_steps": STEPS, "lr_lr": 1e-5},
        "dm": {"kind": "distribution", "batch_real": real},
        "rat": {"kind": "unrolled", "unroll": UNROLL, "window": WINDOW, "random": False, "batch_real": CLASSES * real},
    }[CASES[case]]
    table = {
        "name": "peers",
        "dataset": {"kind": "digits"},
        "network": {"depth": 3, "width": 128},
        "synthetic": {"ipc": 10 if case in ("mtt-100", "dm") else 1},
        "objective": {**objective, "engine": {"compile": "on", "bf16": bf16}},
        "outer": {"optimizer": "adam", "lr_img": 0.001} if case == "rat" else {"optimizer": "sgd", "lr_img": 1.0},
    }
    r = recipe.parse(table, "benchmark")
    split = Split(torch.randn(CLASSES * real, *SHAPE), torch.arange(CLASSES * real) % CLASSES)
    data = Dataset(split, split, split, tuple(map(str, range(CLASSES))), "0" * 64, lambda x: x)
    network = nets.build(r.network, SHAPE, CLASSES, bf16)
    experts = RandomExperts(network, r.experts.count, r.experts.saved_epochs)
    loop = Loop(Context(r, data, network, torch.device("cpu"), experts), Watcher())
    while True:
        turns.next()
        loop.step()
        loop.done += 1


# ---------------------------------------------------------------- theirs


class RandomImages(torch.utils.data.Dataset):
    """Stands for a torchvision dataset: as many images of each class as the case takes."""

    classes = [str(k) for k in range(CLASSES)]

    count = CLASSES

    def __init__(self, *ignored: object, **options: object):
        self.x, self.y = torch.randn(self.count, *SHAPE), [i % CLASSES for i in range(self.count)]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.x[i], self.y[i]


def stand_ins(real: int) -> None:
    """Put modules that do nothing in the place of those that no measured step uses."""

    def module(name: str, **contents: object) -> None:
        made = ModuleType(name)
        made.__spec__, made.__path__ = ModuleSpec(name, None), []
        vars(made).update({"__getattr__": lambda attribute: MagicMock(), **contents})
        sys.modules[name] = made

    for name in ("torchvision.utils", "torchvision.transforms", "kornia", "h5py", "torch_optimizer", "pandas"):
        module(name)
    module("scipy.ndimage.interpolation")
    RandomImages.count = real * CLASSES
    names = ("MNIST", "CIFAR10", "CIFAR100", "ImageFolder")
    module("torchvision.datasets", **dict.fromkeys(names, RandomImages))
    parts = {part: sys.modules[f"torchvision.{part}"] for part in ("utils", "transforms", "datasets")}
    module("torchvision", **parts)
    torch.Tensor.cuda = lambda tensor, *a, **k: tensor
    torch.nn.Module.cuda = lambda module, *a, **k: module


def run(checkout: Path, *arguments: object) -> None:
    """Run the main program of a checkout as `python MAIN ARGUMENTS` does, in a folder of its own."""
    sys.argv = [str(checkout), *map(str, arguments)]
    runpy.run_path(str(checkout), run_name="__main__")


def mtt(case: str, checkout: Path, turns: Turns) -> None:
    """MTT logs "Progress" first in every outer step; its experts are files of lists of parameters."""
    board = SimpleNamespace(config=SimpleNamespace(), finish=lambda: None)
    board.init = lambda config, **options: setattr(board.config, "_items", vars(config))
    board.log = lambda values, **options: turns.next() if "Progress" in values else None
    sys.modules["wandb"] = board
    import networks  # theirs

    shapes = [p.shape for p in networks.ConvNet(3, CLASSES, 128, 3, "relu", "instancenorm", "avgpooling").parameters()]
    epochs = [[0.05 * torch.randn(shape) for shape in shapes] for _ in range(5)]
    folder = Path("experts/CIFAR10_NO_ZCA/ConvNet")
    folder.mkdir(parents=True)
    torch.save([epochs, epochs], folder / "replay_buffer_0.pt")
    settings = {"ipc": int(case.removeprefix("mtt-")) // CLASSES, "syn_steps": STEPS, "Iteration": 10**6}
    settings |= {"expert_epochs": 2, "max_start_epoch": 2, "lr_img": 1, "buffer_path": "experts", "max_files": 1}
    settings |= {"eval_it": -1, "data_path": "data"}  # -1: never
    run(checkout, *(f"--{name}={value}" for name, value in settings.items()))


def dm(case: str, checkout: Path, turns: Turns) -> None:
    """DM makes a network at the beginning of every outer step; in mode M it judges only at the end."""
    import utils  # theirs

    make = utils.get_network
    utils.get_network = lambda *a, **k: (turns.next(), make(*a, **k))[1]
    run(checkout, "--ipc=10", f"--batch_real={REAL['dm']}", "--eval_mode=M", f"--Iteration={10**6}")


def rat(case: str, checkout: Path, turns: Turns) -> None:
    """RaT-BPTT trains a network in the forward pass of a module, with which an outer step begins."""
    sys.modules["wandb"] = MagicMock()
    import framework.base
    import framework.distill_higher

    real = RandomImages()
    framework.base.get_dataset = lambda *a, **k: (real, real, real, CLASSES, SHAPE, None)
    distill = framework.distill_higher.Distill
    distill.module = property(lambda self: self)  # without a GPU their loop gets it bare, not in a DataParallel
    forward = distill.forward
    distill.forward = lambda *a, **k: (turns.next(), forward(*a, **k))[1]
    settings = {"dataset": "cifar10", "num_per_class": 1, "batch_per_class": 1, "batch_size": len(real)}
    settings |= {"epochs": 10**6, "ddtype": "curriculum", "cctype": 2, "arch": "convnet", "window": WINDOW}
    settings |= {
        "totwindow": UNROLL,
        "minwindow": UNROLL - WINDOW,
        "inner_optim": "Adam",
        "inner_lr": 0.001,
        "lr": 0.001,
    }
    settings |= {"test_freq": 10**9, "print_freq": 10**9}
    run(checkout, *(f"--{name}={value}" for name, value in settings.items()))


THEIRS: dict[str, Callable] = {"mtt": mtt, "dm": dm, "rat": rat}


def serve(case: str, who: str, checkout: Path | None) -> None:
    """The process of one rival: a line in, an outer step, a line of figures out."""
    torch.set_num_threads(1)
    turns = Turns()
    if who != "theirs":
        return ours(case, turns, bf16=who == "bf16")
    peer = CASES[case]
    sys.path[:0] = [str(checkout)]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        stand_ins(REAL[peer])
        THEIRS[peer](case, checkout / MAIN[peer], turns)


# ---------------------------------------------------------------- the parent, who gives the turns


class Rival:
    """A process that takes outer steps when asked."""

    def __init__(self, case: str, who: str, checkout: Path):
        command = [sys.executable, __file__, "--serve", f"{case},{who}", f"--{CASES[case]}", str(checkout)]
        one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=os.environ | one
        )

    def step(self) -> dict[str, float]:
        """Raises RuntimeError with the end of what the process said if it ended."""
        with suppress(BrokenPipeError):
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            self.log.seek(0)
            raise RuntimeError(f"{' '.join(map(str, self.process.args))} ended:\n{self.log.read()[-2000:]}")
        return json.loads(answer)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def row(case: str, o: argparse.Namespace) -> dict:
    """Medians of a case; the first step of each rival, which compiles or warms up, does not count."""
    checkout = getattr(o, CASES[case]).resolve()
    rivals = {who: Rival(case, who, checkout) for who in ("ours", *["bf16"] * o.bf16, "theirs")}
    for rival in rivals.values():
        rival.step()
    steps: dict[str, list[dict]] = {who: [] for who in rivals}
    for _ in range(o.repeats):
        for who, rival in rivals.items():
            steps[who].append(rival.step())
    for rival in rivals.values():
        rival.close()
    figures: dict = {"case": case, "commit": commit(checkout), "repeats": o.repeats}
    for who, taken in steps.items():
        figures |= {f"{who}_{what}": statistics.median(s[what] for s in taken) for what in taken[0]}
    for who in [who for who in rivals if who != "theirs"]:
        for what in ("seconds", "cpu_seconds"):
            figures[f"{who}_faster_{what}"] = figures[f"theirs_{what}"] / figures[f"{who}_{what}"]
    return figures


def commit(checkout: Path) -> str:
    done = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def why_not(case: str, o: argparse.Namespace) -> str | None:
    """Why a case cannot be measured, and what would help."""
    peer = CASES[case]
    checkout: Path | None = getattr(o, peer)
    if checkout is None:
        return f"no checkout given: --{peer} PATH"
    if not (checkout / MAIN[peer]).is_file():
        return f"{checkout} has no {MAIN[peer]}: --{peer} takes a clone of the repository that --help names"
    if peer == "rat" and not find_spec("higher"):
        return "the package higher is missing: pip install higher"
    return None


def show(rows: list[dict]) -> None:
    print("\ncase     rival   clock s   faster  processor s   faster  resident MiB")
    for r in rows:
        for who in [who for who in ("ours", "bf16", "theirs") if f"{who}_seconds" in r]:
            ratios = [r.get(f"{who}_faster_{what}") for what in ("seconds", "cpu_seconds")]
            clock, processor = (f"{ratio:7.2f}x" if ratio else " " * 8 for ratio in ratios)
            print(f"{r['case']:8} {who:6} {r[f'{who}_seconds']:8.2f} {clock} ", end="")
            print(f"{r[f'{who}_cpu_seconds']:12.2f} {processor} {r[f'{who}_mib']:13.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for peer, program in MAIN.items():
        parser.add_argument(f"--{peer}", type=Path, metavar="PATH", help=f"checkout that holds {program}")
    parser.add_argument("--case", action="append", choices=CASES, help="[default: all whose checkout is given]")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bf16", action="store_true", help="also ours in bfloat16, which is another arithmetic")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.serve:
        case, who = o.serve.split(",")
        return serve(case, who, getattr(o, CASES[case]))
    rows = []
    for case in o.case or CASES:
        if reason := why_not(case, o):
            print(f"{case}: skipped, {reason}", flush=True)
            continue
        rows.append(row(case, o))
        print(json.dumps(rows[-1]), flush=True)
    if rows:
        show(rows)
    if o.json:
        o.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
