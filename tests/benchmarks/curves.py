"""Draws accuracy against outer steps for runs of ours, beside what the papers of their methods reach.

python tests/benchmarks/curves.py --json docs/pictures/cifar10-steps.json --out docs/pictures/cifar10-steps.png
python tests/benchmarks/curves.py --json FILE --out PICTURE --add "MTT, 20 experts" MTT:5000 SOURCE

The file has the curves, so that the picture can be drawn again. --add puts one more into it, or replaces that of the
same name: its name, the paper's method as distill/papers.toml calls it, with the paper's outer steps if they are known,
and where the accuracies on held-out images are: a log of lines with JSON objects (`step` and `held_out`), or the id of
an MLflow run at $MLFLOW_TRACKING_URI. A curve may have `test`, [step, accuracy in percent], the figure of the published
set on the test images, which is drawn as a star. Papers chose their best step on the test images.
"""

import argparse
import json
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent)]

from distill.papers import CIFAR10, reference  # noqa: E402

COLOURS = ("#3478c7", "#d64541", "#3c914b", "#cc841c", "#777777")
METRIC = "selection_accuracy"


def points_of(source: str) -> list[list[float]]:
    """[step, accuracy in percent] in the order of steps, from a log or an MLflow run. ValueError if there are none."""
    if Path(source).is_file():
        lines = Path(source).read_text(encoding="utf8").splitlines()
        found = [json.loads(line[line.index("{") :]) for line in lines if "{" in line and line.endswith("}")]
        points = {entry["step"]: entry["held_out"] for entry in found if "held_out" in entry}
    else:
        from mlflow import MlflowClient

        points = {metric.step: metric.value for metric in MlflowClient().get_metric_history(source, METRIC)}
    if not points:
        raise ValueError(f"{source} has no accuracies on held-out images: neither `held_out` in a log nor {METRIC}")
    return [[step, round(100 * points[step], 2)] for step in sorted(points)]


def added(curves: list[dict], name: str, method: str, source: str) -> list[dict]:
    """The curves with one more, or with another one of that name."""
    method, _, steps = method.partition(":")
    curve = {"name": name, "method": method, "paper_steps": int(steps) if steps else None, "points": points_of(source)}
    return [c for c in curves if c["name"] != name] + [curve]


def paper(method: str, ipc: float) -> float:
    """The paper's accuracy on CIFAR-10, percent. ValueError if distill/papers.toml has none."""
    known = dict(reference({"kind": "cifar10"}, tuple(CIFAR10), 32).methods.get(method, []))
    if ipc not in known:
        raise ValueError(f"distill/papers.toml has no accuracy of {method} at {ipc:g} images per class")
    return known[ipc]


def draw(curves: list[dict], ipc: float, file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    axes.set(title=f"CIFAR-10, images per class: {ipc:g}", xlabel="outer steps", ylabel="accuracy, %")
    axes.set_xscale("symlog", linthresh=200)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    for curve, colour in zip(curves, COLOURS, strict=False):
        steps, values = zip(*curve["points"], strict=True)
        axes.plot(steps, values, marker="o", markersize=4, color=colour, label=f"{curve['name']}: held-out images")
        if "test" in curve:
            axes.plot(*curve["test"], marker="*", markersize=13, color=colour, markeredgecolor="white")
        theirs, at = paper(curve["method"], ipc), curve["paper_steps"]
        axes.axhline(theirs, color=colour, linestyle="--", linewidth=1)
        said = f"{curve['method']}, paper: {theirs:g} %" + (f" after {at:,} steps" if at else "")
        axes.plot([at] if at else [], [theirs] if at else [], "D", color=colour, linestyle="--", label=said)
    axes.plot([], [], "k*", markersize=10, label="test images, chosen on held-out ones")
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="the curves")
    parser.add_argument("--out", type=Path, required=True, metavar="PICTURE")
    parser.add_argument("--add", nargs=3, action="append", default=[], metavar=("NAME", "METHOD[:STEPS]", "SOURCE"))
    parser.add_argument("--ipc", type=float, default=1.0, help="images per class")
    o = parser.parse_args()
    curves = json.loads(o.json.read_text(encoding="utf8")) if o.json.exists() else []
    for name, method, source in o.add:
        curves = added(curves, name, method, source)
    if o.add:
        o.json.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf8")
    draw(curves, o.ipc, o.out)


if __name__ == "__main__":
    main()
