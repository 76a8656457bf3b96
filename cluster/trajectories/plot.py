"""The accuracy of a set's experts per epoch, as a picture."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cluster.trajectories.summary import Summary
from distill.errors import StoreError

COLOURS = {"train": "#1f77b4", "test": "#d95f02"}
NAMES = {"train": "training images", "test": "test images"}


def plot(summary: Summary, path: Path) -> None:
    """Write a PNG: mean over the experts with a band of one standard deviation, on training and test images.

    Raises StoreError when the file cannot be written.
    """
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    curve = summary.curve()
    epochs = [e.epoch for e in curve]
    for part in COLOURS:
        mean, std = ([100 * getattr(e, f"{part}_{what}") for e in curve] for what in ("mean", "std"))
        _line(axes, part, epochs, mean, std)
    count = len(summary.experts)
    axes.set(xlabel="epoch", ylabel="accuracy, %", ylim=(0, 100), xlim=(epochs[0], max(epochs[-1], epochs[0] + 1)))
    # Names come from files and recipes: a "$" in them is no formula.
    title = f"{summary.name}: {count} experts\n{summary.network} on {summary.data}".replace("$", r"\$")
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; name a file that can be written") from None


def _line(axes: Axes, part: str, epochs: list[int], mean: list[float], std: list[float]) -> None:
    axes.plot(epochs, mean, color=COLOURS[part], label=f"{NAMES[part]}: {mean[-1]:.1f} ± {std[-1]:.1f} % at the end")
    band = [(max(0, m - s), min(100, m + s)) for m, s in zip(mean, std, strict=True)]
    axes.fill_between(epochs, *zip(*band, strict=True), color=COLOURS[part], alpha=0.2, linewidth=0)
