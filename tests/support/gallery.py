"""A store, a tracking database and folders with a result of every form, for the tests of the gallery."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from support.tori import canvases
from torch import Tensor

from cluster.results.runs import Run
from cluster.store import open_store
from cluster.tracking.run import Tracker
from distill import data, recipe
from distill.data.preprocess import Preprocess
from distill.picture import sheet
from distill.published import Images, Published, Sampler, Windows, write
from distill.published.forms import Stored

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>window.hacked=1</script>",
    '"><b onmouseover="alert(2)">x',
    "{{ 7 * 7 }} '; alert(3) //",
)
STEPS = (0, 10, 20)


@dataclass(frozen=True)
class Places:
    """Where the results are."""

    store: str
    tracking: str
    folder: Path
    """Of the published sets that belong to no run."""


def places(folder: Path) -> Places:
    """Two finished runs on the digits, `first-20` and `second-20`, with pictures of three steps, curves, baselines."""
    where = Places(f"file:{folder}/store", f"sqlite:///{folder}/mlflow.db", folder)
    for name, ipc in (("first", 1), ("second", 2)):
        run(where, name, ipc)
    return where


def run(where: Places, name: str, ipc: int) -> None:
    """A finished run whose images are of one grey level: a tenth at step 0, half at 10, nine tenths at 20."""
    read = recipe.load("digits", [f"name={name}", f"synthetic.ipc={ipc}"])
    raw = data.read(read.dataset)
    y = torch.eye(10).repeat_interleave(ipc, 0)
    levels = {0: 0.1, 10: 0.5, 20: 0.9}
    x = {step: torch.full((10 * ipc, 1, 8, 8), level) for step, level in levels.items()}
    values = read.model_dump(mode="json")
    made = published(Images(x[20], y), raw.classes, values, x[20], step=20, data=raw.parts)
    run = Run(open_store(where.store), f"{name}-20")
    result = {
        "run_id": run.run_id, "step": 20, "selection": "validation", "selection_accuracy": 0.9, "test_mean": 0.91,
        "test_std": 0.01, "test_n": 5, "protocol": read.evaluation.label, "network": read.network.label,
        "budget_floats": 640 * ipc, "budget_bytes": 2560 * ipc, "budget_ipc": float(ipc),
        "budget_bits_per_class": 2048.0 * ipc, "shared_floats": 0, "student_lr": 0.05, "sha256": "", "model": name,
        "version": 3,
    }  # fmt: skip
    run.publish(write(made, where.folder / name), result)
    score = {"mean": 0.7, "std": 0.03, "n": 5}
    own = {"network": result["network"], "protocol": result["protocol"], "recipe": values, "data": raw.parts}
    run.keep_evaluation({"mean": 0.915, "std": 0.01, "n": 5, **own, "random": score, "full": score | {"mean": 0.98}})
    other = own | {"network": "resnet-18"}
    other["recipe"] = recipe.override(values, ["network.kind=resnet"], "test").model_dump(mode="json")
    run.keep_evaluation({"mean": 0.8, "std": 0.02, "n": 3, **other, "scores": {"ior": 0.21}})
    tracker = Tracker.open(where.tracking, "distill", name, run.run_id, {}, {})
    for step, image in x.items():
        tracker.picture(step, "synthetic", sheet(image, y, raw.classes))
        tracker.log(step, {"loss": 1 / (1 + step)})
    tracker.log(20, {"test_accuracy": 0.91})
    tracker.finish()


def published(stored: Stored, classes, values: dict, shown: Tensor | None = None, step: int = 1, **more) -> Published:
    """A published set without preprocessing."""
    return Published(stored, tuple(classes), Preprocess(), None, values, step, {}, shown, **more)


def poster() -> Published:
    """Four classes in the quarters of an image of 16x16, patches of 8x8 every 4 pixels, labels by area."""
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    corners = torch.cartesian_prod(torch.zeros(1, dtype=torch.int64), torch.arange(0, 9, 4), torch.arange(0, 9, 4))
    y = torch.zeros(len(corners), 4)
    for i, (_, top, left) in enumerate(corners.tolist()):
        for k, (down, right) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
            rows = max(0, min(top + 8, 8 * down + 8) - max(top, 8 * down))
            columns = max(0, min(left + 8, 8 * right + 8) - max(left, 8 * right))
            y[i, k] = rows * columns / 64
    return published(Windows(x, corners, (8, 8), y), HOSTILE, {"name": "poster"}, x)


def sampler() -> Published:
    """Three classes of clouds, whose module a test must allow: monkeypatch forms.SAMPLER_MODULES."""
    weights = {"mean": torch.linspace(0.2, 0.8, 3).view(3, 1, 1, 1).expand(3, 1, 8, 8).contiguous(),
               "scale": torch.tensor(0.08)}  # fmt: skip
    return published(Sampler(weights, "support.clouds", {"side": 8}, 3, 2), ("a", "b", "c"), {"name": "clouds"})


def many(classes: int) -> Published:
    """A set of many classes, an image of noise each."""
    x = torch.rand(classes, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return published(Images(x, torch.eye(classes)), [f"class {k}" for k in range(classes)], {"name": "many"}, x)


def folders(where: Places) -> dict[str, str]:
    """Sets in folders, by name: a poster with hostile class names, canvases, a sampler, hostile images."""
    stack = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    values = {
        "name": HOSTILE[1],
        "paper": HOSTILE[0],
        "dataset": {"kind": "npz", "path": f"/home/somebody/{HOSTILE[0]}"},
    }
    hostile = published(Images(stack, torch.eye(4)), HOSTILE, values, stack)
    fabric = canvases((*HOSTILE[:2], "lemon"), size=(48, 64))
    sets = {"poster": poster(), "fabric": fabric, "clouds": sampler(), "hostile": hostile}
    for name, made in sets.items():
        write(made, where.folder / "sets" / name)
    return {name: str(where.folder / "sets" / name) for name in sets}


def colour(image: Image.Image) -> float:
    """Mean grey level of a picture in [0, 1]."""
    return float(np.asarray(image.convert("L"), float).mean() / 255)
