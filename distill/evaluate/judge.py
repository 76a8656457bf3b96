"""Trains fresh networks on a set by the recipe's protocol, and tells how well they classify images they never saw.

The judge never stops a training at its best epoch: what counts is how it ends, or, where a protocol names several
lengths, the one that the held-out part of the training images chooses for all networks together.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from distill import rng
from distill.accuracy import hits, statistics
from distill.context import Context
from distill.data.base import Split
from distill.engine.batches import Batches
from distill.engine.compiling import eager_seconds, forward_flops, pays
from distill.engine.inner import SGD, Adam, InnerStep, Optimizer
from distill.evaluate.budget import real_set
from distill.evaluate.score import Measured, Score, headline
from distill.nets import Network
from distill.recipe import Evaluation
from distill.synthetic.base import Synthetic

SIDE_BY_SIDE_FLOPS = 1e8
"""Steps smaller than this are ruled by the overhead of their kernels, so networks are trained side by side."""
TRACED_STEPS = 100
"""Trainings of so many steps earn the second or so that recording a step takes."""
SEEN = 16
"""Batches, at least, from which batch norms take their statistics after a training."""


def optimizer_of(e: Evaluation) -> Optimizer:
    """The optimiser of a protocol."""
    return Adam() if e.optimizer == "adam" else SGD(e.momentum, e.weight_decay)


class _Material:
    """What one network is trained on, batch by batch: a set, or images drawn from it once or every few passes."""

    def __init__(self, synthetic: Synthetic, context: Context, key: tuple):
        self.synthetic, self.context, self.key = synthetic, context, (*key, "evaluate")
        self.drawn: tuple[int, Batches] | None = None
        self.batches = self._of(0)

    def __len__(self) -> int:
        return len(self.batches.synthetic)

    @property
    def per_pass(self) -> int:
        return self.batches.per_pass

    def __call__(self, i: int) -> tuple[Tensor, Tensor]:
        every = self.context.recipe.evaluation.sampling.redraw_every * self.per_pass
        return (self._of(i // every) if every else self.batches)(i)

    def _of(self, draw: int) -> Batches:
        """Batches of the images of one draw; the latest is kept."""
        if self.drawn is None or self.drawn[0] != draw:
            e, c = self.context.recipe.evaluation, self.context
            images = self.synthetic.sampled(e.sampling, rng.generator(c.seed, *self.key, "sample", draw))
            size = e.batch_of(len(images)) if e.batch_of(len(images)) < len(images) else 0
            self.drawn = draw, Batches(images, size, e.augment, c.seed, self.key)
        return self.drawn[1]


class Judge:
    """Trains and scores networks; the training step is made, and compiled where that pays, at most once.

    `networks` is how many it will train, which decides whether compiling pays: by default those of a whole run. The
    decision must not depend on who else trains some of them.
    """

    def __init__(self, context: Context, networks: int | None = None):
        self.context = context
        self.network = Network(context.network.module, self._settings.bf16)  # whatever the engine runs in
        self.networks = networks
        self.step: InnerStep | None = None

    def score(self, synthetic: Synthetic, lr: float | None, split: Split, networks: int, *key: str | int) -> Score:
        """Accuracies on `split` of so many fresh networks trained on the set, at `lr` if it carries one.

        `key` names the draw of networks.
        """
        keys = [(*key, "network", i) for i in range(networks)]
        return headline(self.measure([synthetic] * networks, lr, split, keys))

    def random_real(self, counts: int | list[int], split: Split) -> Score:
        """The same for random real images; every network gets its own draw of images."""
        n = range(self.context.recipe.evaluation.networks)
        sets = [real_set(self.context, counts, rng.generator(self.context.seed, "random real", i)) for i in n]
        return headline(self.measure(sets, None, split, [("random real", i, "network", 0) for i in n]))

    def measure(
        self, sets: Sequence[Synthetic], lr: float | None, split: Split, keys: Sequence[tuple]
    ) -> list[Measured]:
        """One network for each pair of a set and a key, all sets of one size; a network depends on its key alone.

        On the last bits too, as long as the same ones come together.
        """
        size = len(sets) if self.together(sets[0]) else 1
        starts = range(0, len(sets), size)
        return [m for i in starts for m in self._group(sets[i : i + size], keys[i : i + size], lr, split)]

    def together(self, synthetic: Synthetic) -> bool:
        """Whether networks are trained on the set side by side."""
        flops = forward_flops(self.network, self.context.data.shape) * self._settings.batch_of(len(synthetic))
        return self.context.device.type == "cuda" or flops < SIDE_BY_SIDE_FLOPS

    @property
    def _settings(self) -> Evaluation:
        return self.context.recipe.evaluation

    def _group(self, sets, keys, lr: float | None, split: Split) -> list[Measured]:
        parts = self._materials(sets, keys)
        lengths = self._settings.lengths(len(parts[0]))
        choosing = [self._chooses(split)] if len(lengths) > 1 else []
        accuracies: list[list[list[float]]] = [[] for _ in keys]  # network, length, part
        for thetas in self._train(parts, keys, lr, lengths):
            for theta, part, own in zip(thetas, parts, accuracies, strict=True):
                own.append(self._accuracies(theta, part, [split, *choosing]))
        columns = [tuple(zip(*own, strict=True)) for own in accuracies]  # network, part, length
        return [Measured(lengths, column[0], column[1] if choosing else ()) for column in columns]

    def _materials(self, sets: Sequence[Synthetic], keys: Sequence[tuple]) -> list[_Material]:
        return [_Material(s, self.context, k) for s, k in zip(sets, keys, strict=True)]

    def _chooses(self, split: Split) -> Split:
        """The part that chooses between lengths."""
        return self.context.data.validation if self._settings.selection == "validation" else split

    def _accuracies(self, theta: Tensor, part: _Material, splits: Sequence[Split]) -> list[float]:
        seen = (part(i)[0] for i in range(max(SEEN, part.per_pass)))
        with torch.no_grad():
            known = statistics(self.step, theta, seen)
        return [hits(self.step, theta, split, statistics=known) / len(split) for split in splits]

    def _train(
        self, parts: list[_Material], keys: Sequence[tuple], lr: float | None, lengths: Sequence[int]
    ) -> Iterator[Tensor]:
        """Parameters (s, p) of one network per key after each length, trained side by side when there are several."""
        c, e = self.context, self._settings
        self.step = self.step or self._new_step(len(parts[0]))
        theta = torch.stack([self.network.init(rng.generator(c.seed, *k)) for k in keys]).to(c.device)
        state = self.step.optimizer.start(theta if len(keys) > 1 else theta[0])
        rate = torch.tensor((e.learned_lr and lr) or e.lr, device=c.device)
        half = lengths[-1] // 2 if e.decay == "half" else lengths[-1]
        with torch.no_grad():
            for i in range(lengths[-1]):
                pairs = [part(i) for part in parts]
                x, y = (torch.stack(t) if len(keys) > 1 else t[0] for t in zip(*pairs, strict=True))
                state = self.step.forward(state, x, y, rate if i < half else rate * 0.1, i)
                if i + 1 in lengths:
                    yield state[0].view(len(keys), -1)

    def _new_step(self, images: int) -> InnerStep:
        """Compiled where that pays, a forward step being a quarter of an engine step; else recorded, if it is long."""
        c, e, outer = self.context, self._settings, self.context.recipe.outer
        networks = self.networks or outer.steps // outer.evaluate_every * e.selection_networks + 2 * e.networks
        steps = e.lengths(images)[-1]
        seconds = eager_seconds(self.network, c.data.shape, e.batch_of(images)) / 4
        compiled = pays(c, seconds * steps * networks)
        return InnerStep(self.network, optimizer_of(e), compiled, traced=steps >= TRACED_STEPS)
