"""Trains fresh networks on a set by the recipe's protocol, and measures their accuracy on images they never saw.

The judge never stops a training at its best epoch: the result is the accuracy at the end or, if a protocol has several
lengths, at the length that the held-out training images select for all networks together.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill import rng
from distill.accuracy import hits, statistics
from distill.context import Context
from distill.data.base import Split
from distill.engine.batches import Batches
from distill.engine.compiling import eager_seconds, forward_flops, pays
from distill.engine.inner import SGD, Adam, InnerStep, Optimizer
from distill.errors import RecipeError
from distill.evaluate.budget import real_set
from distill.evaluate.score import Measured, Score, headline
from distill.nets import Network
from distill.recipe import Evaluation
from distill.synthetic.base import Synthetic

SIDE_BY_SIDE_FLOPS = 1e8
"""Below this, kernel overhead dominates the time of a step, so networks are trained side by side."""
TRACED_STEPS = 100
"""Minimum length of a training for which recording the step, about a second, pays off."""
SEEN = 16
"""Minimum number of batches from which batch norms take their statistics after training."""


def optimizer_of(e: Evaluation) -> Optimizer:
    """The optimiser of a protocol."""
    return Adam() if e.optimizer == "adam" else SGD(e.momentum, e.weight_decay)


class _TrainingBatches:
    """Batches that one network is trained on: of a set, or of images drawn from it once or every few passes."""

    def __init__(self, synthetic: Synthetic, context: Context, key: tuple):
        self.synthetic, self.context, self.key = synthetic, context, (*key, "evaluate")
        self.drawn: tuple[int, Batches] | None = None
        self.batches = self._draw(0)

    def __len__(self) -> int:
        return len(self.batches.synthetic)

    @property
    def per_pass(self) -> int:
        return self.batches.per_pass

    def __call__(self, i: int) -> tuple[Tensor, Tensor]:
        every = self.context.recipe.evaluation.sampling.redraw_every * self.per_pass
        return (self._draw(i // every) if every else self.batches)(i)

    def _draw(self, draw: int) -> Batches:
        """Batches of the images of one draw; the latest is cached."""
        if self.drawn is None or self.drawn[0] != draw:
            e, c = self.context.recipe.evaluation, self.context
            images = self.synthetic.sampled(e.sampling, rng.generator(c.seed, *self.key, "sample", draw))
            size = e.batch_of(len(images)) if e.batch_of(len(images)) < len(images) else 0
            self.drawn = draw, Batches(images, size, e.augment, c.seed, self.key)
        return self.drawn[1]


@dataclass(frozen=True)
class TrainedNetwork:
    """A network at the end of its training."""

    theta: Tensor
    """Parameters (p,)."""
    statistics: Tensor | None
    """Of its batch norms (Network.statistics); None without any."""


class Judge:
    """Trains and scores networks; the training step is built, and compiled if that pays off, at most once.

    `networks` is the number of networks that compiling must pay off for, by default those of a whole run. It counts the
    networks of all processes: compiled steps round differently, and results must not depend on the number of workers.
    """

    def __init__(self, context: Context, networks: int | None = None):
        self.context = context
        self.network = Network(context.network.module, self._settings.bf16)  # its dtype is not the objective's
        self.networks = networks
        self.step: InnerStep | None = None

    def score(
        self,
        synthetic: Synthetic,
        lr: float | None,
        split: Split,
        networks: int,
        *key: str | int,
        until: float = math.inf,
    ) -> Score:
        """Accuracies on `split` of `networks` fresh networks trained on the set, at `lr` if it has a learned rate.

        `key` identifies the random initialisations. After `until` (time.monotonic()) no network is begun but the first.
        """
        keys = [(*key, "network", i) for i in range(networks)]
        return headline(self.measure([synthetic] * networks, lr, split, keys, until))

    def random_real(self, counts: int | list[int], split: Split) -> Score:
        """Accuracies of networks trained on random real images, a different draw for each network."""
        n = range(self.context.recipe.evaluation.networks)
        sets = [real_set(self.context, counts, rng.generator(self.context.seed, "random real", i)) for i in n]
        return headline(self.measure(sets, None, split, [("random real", i, "network", 0) for i in n]))

    def measure(
        self,
        sets: Sequence[Synthetic],
        lr: float | None,
        split: Split,
        keys: Sequence[tuple],
        until: float = math.inf,
    ) -> list[Measured]:
        """Train one network for each pair of a set and a key; all sets have the same size.

        A network depends only on its set and key, and in its last bits on the networks trained side by side with it.
        After `until` (time.monotonic()) none is begun but the first, or those at its side.
        """
        size = len(sets) if self.together(sets[0]) else 1
        measured: list[Measured] = []
        for i in range(0, len(sets), size):
            if i and time.monotonic() > until:
                break
            measured += self._group(sets[i : i + size], keys[i : i + size], lr, split)
        return measured

    def trained(self, sets: Sequence[Synthetic], lr: float | None, keys: Sequence[tuple]) -> list[TrainedNetwork]:
        """The networks that measure() scores, at the end of their training.

        RecipeError if the protocol has several lengths of training.
        """
        size, networks = len(sets) if self.together(sets[0]) else 1, []
        for i in range(0, len(sets), size):
            batches = self._batches(sets[i : i + size], keys[i : i + size])
            lengths = self._settings.lengths(len(batches[0]))
            if len(lengths) > 1:
                raise RecipeError(f"evaluation.steps = {list(lengths)}: set the one length of training that counts")
            (thetas,) = self._train(batches, keys[i : i + size], lr, lengths)
            networks += [
                TrainedNetwork(theta, self._statistics(theta, own)) for theta, own in zip(thetas, batches, strict=True)
            ]
        return networks

    def together(self, synthetic: Synthetic) -> bool:
        """Whether networks on this set are trained side by side."""
        flops = forward_flops(self.network, self.context.data.shape) * self._settings.batch_of(len(synthetic))
        return self.context.device.type == "cuda" or flops < SIDE_BY_SIDE_FLOPS

    @property
    def _settings(self) -> Evaluation:
        return self.context.recipe.evaluation

    def _group(self, sets, keys, lr: float | None, split: Split) -> list[Measured]:
        """Train and measure networks side by side."""
        batches = self._batches(sets, keys)
        lengths = self._settings.lengths(len(batches[0]))
        splits = [split] if len(lengths) == 1 else [split, self._selection_split(split)]
        accuracies: list[list[list[float]]] = [[] for _ in keys]  # [network][length][split]
        for thetas in self._train(batches, keys, lr, lengths):
            for theta, own_batches, own in zip(thetas, batches, accuracies, strict=True):
                own.append(self._accuracies(theta, own_batches, splits))
        columns = [tuple(zip(*own, strict=True)) for own in accuracies]  # [network][split][length]
        return [Measured(lengths, column[0], column[1] if len(splits) > 1 else ()) for column in columns]

    def _batches(self, sets: Sequence[Synthetic], keys: Sequence[tuple]) -> list[_TrainingBatches]:
        return [_TrainingBatches(s, self.context, k) for s, k in zip(sets, keys, strict=True)]

    def _selection_split(self, split: Split) -> Split:
        """The images that select between lengths of training."""
        return self.context.data.validation if self._settings.selection == "validation" else split

    def _accuracies(self, theta: Tensor, batches: _TrainingBatches, splits: Sequence[Split]) -> list[float]:
        """Accuracies on each split, with batch norm statistics from the training images."""
        norms = self._statistics(theta, batches)
        return [hits(self.step, theta, split, statistics=norms) / len(split) for split in splits]

    def _statistics(self, theta: Tensor, batches: _TrainingBatches) -> Tensor | None:
        seen = (batches(i)[0] for i in range(max(SEEN, batches.per_pass)))
        with torch.no_grad():
            return statistics(self.step, theta, seen)

    def _train(
        self, batches: list[_TrainingBatches], keys: Sequence[tuple], lr: float | None, lengths: Sequence[int]
    ) -> Iterator[Tensor]:
        """Parameters (s, p) of one network per key after each length, trained side by side if there are several."""
        c, e = self.context, self._settings
        self.step = self.step or self._new_step(len(batches[0]))
        theta = torch.stack([self.network.init(rng.generator(c.seed, *k)) for k in keys]).to(c.device)
        state = self.step.optimizer.start(theta if len(keys) > 1 else theta[0])
        rate = torch.tensor((e.learned_lr and lr) or e.lr, device=c.device)
        half = lengths[-1] // 2 if e.decay == "half" else lengths[-1]
        with torch.no_grad():
            for i in range(lengths[-1]):
                pairs = [own(i) for own in batches]
                x, y = (torch.stack(t) if len(keys) > 1 else t[0] for t in zip(*pairs, strict=True))
                state = self.step.forward(state, x, y, rate if i < half else rate * 0.1, i)
                if i + 1 in lengths:
                    yield state[0].view(len(keys), -1)

    def _new_step(self, images: int) -> InnerStep:
        """The training step for sets of `images`: compiled if that pays off, else recorded if training is long."""
        c, e, outer = self.context, self._settings, self.context.recipe.outer
        networks = self.networks or outer.steps // outer.evaluate_every * e.selection_networks + 2 * e.networks
        steps = e.lengths(images)[-1]
        seconds = eager_seconds(self.network, c.data.shape, e.batch_of(images)) / 4  # no adjoint step
        compiled = pays(c, seconds * steps * networks)
        return InnerStep(self.network, optimizer_of(e), compiled, traced=steps >= TRACED_STEPS)
