"""How fast this machine is at what a run consists of: measured on random images, a few seconds for each network.

Clock(recipe, (3, 32, 32), counts).outer_step()    # seconds
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from distill import nets, rng, train
from distill.accuracy import hits
from distill.context import Context, device_of
from distill.data.base import Dataset, Split
from distill.data.preprocess import fit
from distill.engine.inner import InnerStep
from distill.evaluate import Judge
from distill.loop import Loop, Watcher
from distill.recipe import Recipe

MOST_REAL = 2048
"""Random training images that stand for the real ones."""
PROBED = 5000
"""Training images on which the accuracy of an expert is measured after each epoch."""
JUDGED_STEPS = 20
"""Steps of a training that is timed; a judgement has hundreds."""


@dataclass(frozen=True)
class RandomExperts:
    """Networks that stand for experts: random parameters that change a little from epoch to epoch."""

    network: nets.Network
    count: int
    epochs: list[int]

    def snapshot(self, expert: int, epoch: int) -> Tensor:
        theta = self.network.init(rng.generator(0, "expert init", expert))
        return theta * (1 + 0.05 * epoch)

    def prefetch(self, wanted: list[tuple[int, int]]) -> None:
        """Nothing is read."""


def stand_in(shape: tuple[int, int, int], counts: Sequence[int], device: torch.device) -> Dataset:
    """Random images of a shape, with at most MOST_REAL for training; `counts` are the training images of each class."""
    share = min(1.0, MOST_REAL / sum(counts))
    labels = torch.cat([torch.full((max(2, round(n * share)),), i) for i, n in enumerate(counts)])
    pixels = torch.randint(0, 256, (len(labels), *shape), generator=rng.generator(0, "stand-in"), dtype=torch.uint8)
    preprocess = fit("standardize", pixels, device)
    split = Split((pixels.float().to(device) / 255 - 0.5) * 3, labels.to(device))
    few = Split(split.x[:256], split.y[:256])
    return Dataset(split, few, few, tuple(map(str, range(len(counts)))), "0" * 64, preprocess)


class Clock:
    """Seconds of the parts of one recipe, each measured when it is first asked for.

    `counts` are the training images of each class.
    """

    def __init__(self, recipe: Recipe, shape: tuple[int, int, int], counts: Sequence[int]):
        device = device_of(recipe.device)
        real, one = recipe.synthetic.model_copy(update={"init": "real"}), recipe.outer.model_copy(update={"steps": 1})
        recipe = recipe.model_copy(update={"synthetic": real, "outer": one})  # so short that nothing is compiled
        data = stand_in(shape, counts, device)
        network = nets.build(recipe.network, shape, len(counts), recipe.objective.bf16)
        experts = RandomExperts(network, recipe.experts.count, list(range(recipe.experts.epochs + 1)))
        self.context = Context(recipe, data, network, device, experts)

    def expert_epoch(self, images: int, test: int) -> float:
        """Seconds of one epoch of one expert on `images`, and of its accuracy on `test` others; not compiled."""
        c, o = self.context, self.context.recipe.experts
        step = InnerStep(c.network, train.expert_step(c, train.Choices(False, False)).optimizer)
        batch = c.data.train.x[: o.batch], F.one_hot(c.data.train.y[: o.batch], c.classes).float()
        state, lr = step.optimizer.start(c.network.init(rng.generator(0, "clock")).to(c.device)), torch.tensor(o.lr)
        with torch.no_grad():
            seconds = self._timed(lambda: step.forward(state, *batch, lr.to(c.device), 0))
            known = self._timed(lambda: hits(step, state[0], c.data.test, statistics=None))
        return seconds * images / len(batch[0]) + known * (test + min(images, PROBED)) / len(c.data.test)

    def outer_step(self) -> float:
        """Seconds of one outer step; not compiled."""
        loop = Loop(self.context, Watcher())
        return self._timed(loop.step)

    def judgement(self, networks: int) -> tuple[float, float]:
        """Seconds of (one training step of `networks` fresh networks, their accuracies on one test image)."""
        c = self.context
        e = c.recipe.evaluation.model_copy(update={"steps": (JUDGED_STEPS,), "epochs": 0, "decay": "none"})
        short = replace(c, recipe=c.recipe.model_copy(update={"evaluation": e}))
        loop, none = Loop(short, Watcher()), Split(c.data.test.x[:1], c.data.test.y[:1])
        judge = Judge(short, networks=1)
        both = [
            self._timed(lambda split=split: judge.score(loop.synthetic, None, split, networks, "clock"), 1)
            for split in (none, c.data.test)
        ]
        return both[0] / JUDGED_STEPS, max(0.0, both[1] - both[0]) / len(c.data.test)

    def _timed(self, run: Callable[[], object], warm: int = 1) -> float:
        """Seconds of a run after `warm` others, which choose kernels."""
        for _ in range(warm):
            run()
        self._wait()
        start = time.perf_counter()
        run()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.context.device.type == "cuda":
            torch.cuda.synchronize(self.context.device)
