"""Accuracy of posters: against the budget, the number of patches and the order of classes; tables and plots.

    python tests/benchmarks/posters_figures.py run digits [KEY=VALUE] --json figures.jsonl [--part 0/2] [--only TEXT]
    python tests/benchmarks/posters_figures.py draw figures.jsonl --folder docs/pictures

`run` distills one setting after another in this process, without Ray, and appends a line of JSON for each; it skips
settings that the file already has, so it can be stopped and restarted. --part splits the settings over processes.
The data: digits, fashion, cifar10, each with the shipped recipe of a poster of one image per class as its base. Every
setting of one figure takes the same number of outer steps. --only "budget poster 1.0", which may be repeated, runs only
the settings whose figure and name start with the text.

budget     posters of 0.3, 0.5, 0.8, 1.0 images per class, pixels of 1 (the same objective), random real images of 1
patches    from as many patches as classes (no overlap) to 160, at 1 image per class (PoDD, figure 6)
order      five random orders, greedy, optimal, at 0.3 or 0.5 images per class, with their score (PoDD, section 5.3)
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from distill import context, order, recipe
from distill.evaluate import Judge
from distill.loop import Loop, Watcher

BASE = {"digits": "poster-digits-10", "fashion": "poster-fashion-10", "cifar10": "poster-cifar10-small-10"}
BUDGETS = (0.3, 0.5, 0.8, 1.0)
PATCHES = ((5, 2), (8, 3), (10, 4), (12, 5), (16, 6), (18, 7), (20, 8))
ORDER_IPC = {"digits": 0.5, "fashion": 0.3, "cifar10": 0.3}
FLAT = {"digits": ("synthetic.rows=1", "synthetic.columns=10")}  # at 0.3 the poster is one patch high
LEARNED = ("synthetic.labels.mode=learned", "synthetic.labels.lr=0.05")
RANDOM_ORDERS = 6
PIXELS = ['synthetic={kind="pixels", ipc=1, init="%s", labels={mode="%s", lr=%s}}']


@dataclass(frozen=True)
class Setting:
    """One point of a figure: overrides of the base recipe, or a baseline that needs no distillation."""

    figure: str
    name: str
    overrides: tuple[str, ...]
    baseline: bool = False


def settings(data: str) -> list[Setting]:
    """All points of the figures of one dataset."""
    return [*_budget(data), *_patches(), *_orders(data)]


def _budget(data: str) -> list[Setting]:
    base = recipe.load(BASE[data]).synthetic
    init = {"blend": "real", "noise": "noise"}[base.init]
    pixels = [
        Setting("budget", f"pixels 1.0, {mode} labels", (PIXELS[0] % (init, mode, 0.05 if mode == "learned" else 0),))
        for mode in ("hard", "learned")
    ]

    def poster(ipc: float, labels: tuple[str, ...]) -> Setting:
        flat = FLAT.get(data, ()) if ipc == BUDGETS[0] else ()
        name = f"poster {ipc}" + (" learned labels" if labels else "")
        return Setting("budget", name, (f"synthetic.ipc={ipc}", *flat, *labels))

    return [
        *(poster(ipc, ()) for ipc in BUDGETS[1:]),  # fixed labels leave classes out at 0.3
        *(poster(ipc, LEARNED) for ipc in BUDGETS if ipc != 0.8),
        *pixels,
        Setting("budget", "random real 1.0", (), baseline=True),
    ]


def _patches() -> list[Setting]:
    return [
        Setting("patches", f"{x}x{y}", (f"synthetic.patches_x={x}", f"synthetic.patches_y={y}")) for x, y in PATCHES
    ]


def _orders(data: str) -> list[Setting]:
    ipc = ORDER_IPC[data]
    at = (f"synthetic.ipc={ipc}", *(LEARNED if ipc < 0.5 else ()))  # fixed labels leave classes out there
    points = [Setting("order", name, (*at, f"synthetic.order={name}")) for name in ("greedy", "optimal")]
    for i in range(RANDOM_ORDERS):
        shuffled = torch.randperm(10, generator=torch.Generator().manual_seed(i)).tolist()
        points.append(Setting("order", f"random {i}", (*at, f"synthetic.order={shuffled}")))
    return points


# ---------------------------------------------------------------- run


class Progress(Watcher):
    """A line per judgement."""

    def __init__(self):
        self.loss = 0.0

    def step(self, step: int, metrics: dict[str, float]) -> None:
        self.loss = metrics["loss"]

    def judged(self, step: int, score, best: bool) -> None:
        print(f"    step {step}: {score} held out, loss {self.loss:.3f}", flush=True)


def measure(data: str, setting: Setting, overrides: list[str]) -> dict:
    """Distill a setting and judge it on the test part."""
    r = recipe.load(BASE[data], [*setting.overrides, *overrides])
    started, c = time.perf_counter(), context.prepare(r)
    row = {"data": data, "figure": setting.figure, "name": setting.name, "overrides": overrides, "seed": r.seed}
    if setting.baseline:
        return row | {"test": Judge(c).random_real(1, c.data.test).as_dict()}
    loop = Loop(c, Progress())
    best = loop.run()
    loop.synthetic.load_state_dict(best.state)
    test = loop.judge.score(loop.synthetic, best.student_lr, c.data.test, r.evaluation.networks, "test")
    row |= {"test": test.as_dict(), "step": best.step, "steps": r.outer.steps, "selection": best.score}
    row |= {"patches": len(loop.synthetic), "floats": loop.synthetic.budget().total}
    if setting.figure == "order":
        apart = order.distances(c.data.classes, r.synthetic.embedding, context=c)
        row |= {"order": (grid := loop.synthetic.order[0].tolist()), "order_score": order.score(apart, grid)}
    return row | {"seconds": time.perf_counter() - started}


def run(o: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    done = {_key(row) for row in read(o.out)}
    mine, of = map(int, o.part.split("/"))
    chosen = [s for s in settings(o.data) if f"{s.figure} {s.name}".startswith(tuple(o.only or [""]))]
    for setting in chosen[mine::of]:
        row = {"data": o.data, "figure": setting.figure, "name": setting.name, "overrides": o.overrides}
        if _key(row) in done:
            continue
        print(f"{o.data}: {setting.figure}, {setting.name}", flush=True)
        row = measure(o.data, setting, o.overrides)
        with o.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"    test {100 * row['test']['mean']:.1f} ± {100 * row['test']['std']:.1f} %", flush=True)


def read(file: Path) -> list[dict]:
    """Rows of a file of results, if there is one."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _key(row: dict) -> tuple:
    return row["data"], row["figure"], row["name"], tuple(row["overrides"])


# ---------------------------------------------------------------- draw


def draw(o: argparse.Namespace) -> None:
    """Tables on the terminal, and a picture for each figure of each dataset."""
    import matplotlib

    matplotlib.use("Agg")
    rows = read(o.file)
    o.folder.mkdir(parents=True, exist_ok=True)
    for data in dict.fromkeys(row["data"] for row in rows):
        for figure, plot in (("budget", plot_budget), ("patches", plot_patches), ("order", plot_order)):
            chosen = [row for row in rows if (row["data"], row["figure"]) == (data, figure)]
            if chosen := sorted(chosen, key=lambda row: [s.name for s in settings(data)].index(row["name"])):
                print(f"\n{data}, {figure}")
                for row in chosen:
                    print(f"  {row['name']:24} {_percent(row)}  {row.get('order_score', '')}")
                plot(data, chosen, o.folder / f"posters-{data}-{figure}.png")


def plot_budget(data: str, rows: list[dict], file: Path) -> None:
    """Accuracy against images per class; pixels and random images as lines across."""
    figure, axes = _axes(data, "images per class")
    posters = [row for row in rows if row["name"].startswith("poster")]
    for labels, marker, colour in (("", "o", "#3478c7"), ("learned labels", "s", "#3c914b")):
        series = [row for row in posters if row["name"].split(" ", 2)[2:] == [labels] * bool(labels)]
        x, (y, error) = [float(row["name"].split()[1]) for row in series], _values(series)
        axes.errorbar(x, y, error, marker=marker, capsize=3, color=colour, label=f"poster {labels}".strip())
    for row, colour in zip([r for r in rows if r not in posters], ("#d64541", "#cc841c", "#777777"), strict=False):
        mean = 100 * row["test"]["mean"]
        axes.axhline(mean, color=colour, linestyle="--", label=row["name"])
    axes.set_xticks(BUDGETS)
    axes.legend(loc="lower right", frameon=False)
    _save(figure, file)


def plot_patches(data: str, rows: list[dict], file: Path) -> None:
    """Accuracy against the number of patches."""
    figure, axes = _axes(data, "patches")
    y, error = _values(rows)
    axes.errorbar([row["patches"] for row in rows], y, error, marker="o", capsize=3, color="#3478c7")
    for row, value in zip(rows, y, strict=True):
        axes.annotate(row["name"], (row["patches"], value), textcoords="offset points", xytext=(6, -12), fontsize=8)
    _save(figure, file)


def plot_order(data: str, rows: list[dict], file: Path) -> None:
    """Accuracy against the score of the order of classes, with their correlation."""
    scores, (y, error) = [row["order_score"] for row in rows], _values(rows)
    r = torch.corrcoef(torch.tensor([scores, y], dtype=torch.float64))[0, 1].item()
    print(f"  correlation of score and accuracy: {r:.2f} over {len(rows)} orders")
    figure, axes = _axes(f"{data}: correlation {r:.2f}", "order score (1 / summed distance of neighbours)")
    for row, x, value, spread in zip(rows, scores, y, error, strict=True):
        colour = {"greedy": "#cc841c", "optimal": "#3c914b"}.get(row["name"], "#3478c7")
        axes.errorbar(x, value, spread, marker="o", capsize=3, color=colour)
        axes.annotate(row["name"], (x, value), textcoords="offset points", xytext=(6, 4), fontsize=8)
    _save(figure, file)


def _axes(title: str, x: str):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    axes.set(title=title, xlabel=x, ylabel="test accuracy, %")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure, file: Path) -> None:
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    print(f"  {file}")


def _values(rows: list[dict]) -> tuple[list[float], list[float]]:
    return [100 * row["test"]["mean"] for row in rows], [100 * row["test"]["std"] for row in rows]


def _percent(row: dict) -> str:
    return f"{100 * row['test']['mean']:5.1f} ± {100 * row['test']['std']:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run")
    one.add_argument("data", choices=BASE)
    one.add_argument("overrides", nargs="*")
    one.add_argument("--json", "--out", dest="out", metavar="FILE", type=Path, required=True, help="lines of JSON")
    one.add_argument("--part", default="0/1", help="which of how many processes this is")
    one.add_argument(
        "--only", action="append", metavar="TEXT", help="only settings whose figure and name start with TEXT"
    )
    one.set_defaults(do=run)
    two = commands.add_parser("draw")
    two.add_argument("file", type=Path)
    two.add_argument("--folder", type=Path, default=Path("docs/pictures"))
    two.set_defaults(do=draw)
    o = parser.parse_args()
    o.do(o)


if __name__ == "__main__":
    main()
