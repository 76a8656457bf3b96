"""How good a synthetic set is: fresh networks are trained on it and judged on images nobody trained on.

Protocol `mtt` (Cazenavette et al. 2022): SGD at the learned rate, momentum 0.9, weight decay 5e-4, batch 256, the rate
falls to a tenth at half of the epochs. The judge never chooses between epochs: what is trained last is what counts.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from distill import recipe, rng
from distill.accuracy import accuracy
from distill.batches import Batches
from distill.compiling import eager_seconds, forward_flops, pays
from distill.context import Context
from distill.data.base import Split
from distill.inner import SGD, InnerStep
from distill.synthetic.base import Synthetic
from distill.synthetic.pixels import Pixels, real_images

BATCH = 256
SIDE_BY_SIDE_FLOPS = 1e8
"""Steps smaller than this are ruled by the overhead of their kernels, so networks are trained side by side."""


@dataclass(frozen=True)
class Score:
    """Accuracies of n networks, as fractions."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return float(torch.tensor(self.values, dtype=torch.float64).mean())

    @property
    def std(self) -> float:
        """Sample standard deviation; 0 for one network."""
        return float(torch.tensor(self.values, dtype=torch.float64).std()) if self.n > 1 else 0.0

    def as_dict(self) -> dict:
        return {"mean": self.mean, "std": self.std, "n": self.n}

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} ± {100 * self.std:.1f} % (n={self.n})"


class Judge:
    """Trains and scores networks under a recipe's evaluation protocol; the training step is compiled at most once."""

    def __init__(self, context: Context):
        self.context = context
        self.step: InnerStep | None = None

    def score(self, synthetic: Synthetic, lr: float, split: Split, networks: int, *key: str | int) -> Score:
        """Accuracies on `split` of so many fresh networks trained on the set; `key` names the draw of networks."""
        thetas = self._train(synthetic, lr, networks, key)
        return Score(tuple(accuracy(self.step, theta, split) for theta in thetas))

    def random_real(self, per_class: int, split: Split) -> Score:
        """The same for random real images; every network gets its own draw of images."""
        c, e = self.context, self.context.recipe.evaluation
        scores = []
        for i in range(e.networks):
            images = real_set(c, per_class, rng.generator(c.seed, "random real", i))
            scores += self.score(images, e.lr, split, 1, "random real", i).values
        return Score(tuple(scores))

    def _train(self, synthetic: Synthetic, lr: float, networks: int, key: tuple) -> list[Tensor]:
        c = self.context
        self.step = self.step or self._new_step(synthetic)
        together = c.device.type == "cuda" or self._step_flops(synthetic) < SIDE_BY_SIDE_FLOPS
        keys = [(*key, "network", i) for i in range(networks)]
        groups = [keys] if together else [[k] for k in keys]
        return [theta for group in groups for theta in self._train_group(synthetic, lr, group)]

    def _train_group(self, synthetic: Synthetic, lr: float, keys: list[tuple]) -> list[Tensor]:
        """Parameters of one network per key, trained side by side when there are several."""
        c, e = self.context, self.context.recipe.evaluation
        size = BATCH if len(synthetic) > BATCH else 0
        parts = [Batches(synthetic, size, e.augment, c.seed, (*k, "evaluate")) for k in keys]
        theta = torch.stack([c.network.init(rng.generator(c.seed, *k)) for k in keys]).to(c.device)
        state = self.step.optimizer.start(theta if len(keys) > 1 else theta[0])
        steps = e.epochs * parts[0].per_pass
        rate = torch.tensor(lr, device=c.device)
        with torch.no_grad():
            for i in range(steps):
                pairs = [part(i) for part in parts]
                x, y = (torch.stack(t) if len(keys) > 1 else t[0] for t in zip(*pairs, strict=True))
                state = self.step.forward(state, x, y, rate if i < steps // 2 else rate * 0.1, i)
        return list(state[0].view(len(keys), -1))

    def _new_step(self, synthetic: Synthetic) -> InnerStep:
        """A forward step is a quarter of an engine step; count all networks this run will train."""
        c, e, outer = self.context, self.context.recipe.evaluation, self.context.recipe.outer
        networks = outer.steps // outer.evaluate_every * e.selection_networks + 2 * e.networks
        seconds = eager_seconds(c.network, c.data.shape, min(BATCH, len(synthetic))) / 4
        return InnerStep(c.network, SGD(0.9, 5e-4), pays(c, seconds * e.epochs * networks))

    def _step_flops(self, synthetic: Synthetic) -> float:
        return forward_flops(self.context.network, self.context.data.shape) * min(BATCH, len(synthetic))


def real_set(context: Context, per_class: int, g: torch.Generator) -> Pixels:
    """Random real training images as a synthetic set."""
    x = real_images(context.data.train, context.classes, per_class, g)
    y = torch.arange(context.classes, device=x.device).repeat_interleave(per_class)
    return Pixels(x, F.one_hot(y, context.classes).to(x), recipe.Labels())
