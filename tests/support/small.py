"""A run small enough for unit tests: random images or a slice of the digits, experts that live in memory.

loop = Loop(small.context("trajectory", "outer.steps=3"), Watcher())
"""

import torch
from torch import Tensor

from distill import data, nets, recipe, rng
from distill.context import Context
from distill.data.base import Dataset, Split
from distill.data.preprocess import Preprocess
from distill.published import Images, Published

CPU = torch.device("cpu")
BASE = {
    "name": "small",
    "seed": 3,
    "threads": 1,
    "dataset": {"kind": "digits"},
    "network": {"depth": 1, "width": 4},
    "experts": {"count": 2, "epochs": 6},
    "synthetic": {"kind": "pixels", "ipc": 2},
    "outer": {"steps": 3, "lr_img": 1.0, "evaluate_every": 100, "picture_every": 100, "checkpoint_every": 100},
    "evaluation": {"networks": 1, "selection_networks": 1, "epochs": 2, "augment": {"strategies": []}},
}
OBJECTIVES = {
    "trajectory": {"syn_steps": 3, "batch_syn": 4, "max_start_epoch": 3, "lr_teacher": 0.05, "lr_lr": 1e-4},
    "distribution": {"batch_real": 8},
    "gradient": {"batch_real": 8},
    "unrolled": {"unroll": 5, "window": 2, "batch_syn": 4, "batch_real": 20, "lr_inner": 0.01},
}


class MemoryExperts:
    """Random networks that pretend to be an expert's epochs: each is the one before, a little moved."""

    def __init__(self, network: nets.Network, count: int, epochs: int):
        self.count, self.epochs = count, list(range(epochs + 1))
        start = torch.stack([network.init(rng.generator(i, "expert")) for i in range(count)])
        moves = 0.02 * torch.randn(count, epochs, network.layout.size, generator=rng.generator(0, "moves"))
        self.theta = torch.cat([start[:, None], start[:, None] + moves.cumsum(1)], 1)  # (count, epochs + 1, p)
        self.asked: list[tuple[int, int]] = []
        self.prefetched: list[list[tuple[int, int]]] = []

    def snapshot(self, expert: int, epoch: int) -> Tensor:
        self.asked.append((expert, epoch))
        return self.theta[expert, epoch].clone()

    def prefetch(self, wanted: list[tuple[int, int]]) -> None:
        self.prefetched.append(wanted)


def context(kind: str, *overrides: str, digits: int = 0, dtype: torch.dtype = torch.float32) -> Context:
    """A context for an objective; on `digits` real digits, or on random images of 3 classes if it is 0."""
    table = {**BASE, "objective": {"kind": kind, **OBJECTIVES.get(kind, {})}}
    r = recipe.override(table, [*overrides, *([f"dataset.limit={digits}"] if digits else [])], "small")
    dataset = data.load(r.dataset, r.seed, CPU) if digits else random_data(dtype=dtype)
    network = nets.build(r.network, dataset.shape, len(dataset.classes), False)
    return Context(r, dataset, network, CPU, MemoryExperts(network, r.experts.count, r.experts.epochs))


def random_data(classes: int = 3, shape=(3, 8, 8), n: int = 45, dtype: torch.dtype = torch.float32) -> Dataset:
    """Noise around one mean image per class, the same every time."""
    g = rng.generator(0, "random data")
    means = torch.randn(classes, *shape, generator=g)

    def split(count: int) -> Split:
        y = torch.arange(count) % classes
        return Split((means[y] + 0.5 * torch.randn(count, *shape, generator=g)).to(dtype), y)

    names = tuple(f"class {k}" for k in range(classes))
    return Dataset(split(n), split(12), split(12), names, "0" * 64, Squash())


class Squash(Preprocess):
    """Networks see logits of pixels: what random_data() needs, whose values are not within [0, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.logit(1e-6)

    def inverse(self, x: Tensor) -> Tensor:
        return x.sigmoid()


def plain(synthetic) -> tuple[Tensor, Tensor]:
    """The images (n, c, h, w) and labels (n, classes) that would be published."""
    stored = synthetic.stored()
    return stored.images(), stored.y


def published(x, y, pixels, classes, lr, values, step, state, data=None, preprocess=None) -> Published:
    """A published set of images x (n, c, h, w), labels y (n, classes) and recipe `values`."""
    stored, preprocess = Images(x, y), preprocess or Preprocess()
    return Published(stored, tuple(classes), preprocess, lr, values, step, state, pixels, data or {})
