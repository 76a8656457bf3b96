"""Training against a discriminator: a GAN, if the set is a generator.

    stillhouse distill digits synthetic.kind=generator synthetic.ipc=10 objective.kind=adversarial

The discriminator sees real and synthetic images through a frozen network (Projected GANs, Sauer et al. 2021;
distill/nets/projected.py), after differentiable augmentation (Zhao et al. 2020), and both are trained by hinge losses.
Discriminator and set take one step at the same time, each on the loss of its own, so that the outer loop sums their
gradients over workers, keeps both in checkpoints and resumes both as it does for every other objective.
"""

import logging
from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from distill import features, recipe, rng
from distill.augment import apply_runs, draw, runs
from distill.context import Context
from distill.features import Features
from distill.nets.projected import Projected
from distill.objectives import base
from distill.objectives.base import Pass, Work
from distill.objectives.by_class import rows_of_classes, some_rows
from distill.synthetic.base import Group, Synthetic

log = logging.getLogger("stillhouse")
STANDARD = 256
"""Real images, at most, that maps are standardised by."""
MEASURED = 50
"""Real images per class, at most, whose distances the alarm compares with."""
SMOOTH, FIRST = 0.98, 100
"""Decay of the running mean of the distances, and the steps before the first alarm: an untrained generator hardly
varies, whatever its latents."""


class Objective(base.Objective):
    def __init__(self, settings: recipe.Adversarial, context: Context):
        super().__init__(settings, context)
        self.layers = settings.layers or range(context.network.blocks(context.data.shape) + 1)
        context.network.check_layers(context.data.shape, [layer for layer in self.layers if layer])
        if settings.features != "experts":  # else they may still have to be trained
            self.features  # noqa: B018 - what cannot be read is refused now
        one = context.data.train.x[:1]
        blank = Features(context.network, torch.zeros(context.network.layout.size).to(one), "")
        shapes = [tuple(m.shape[1:]) for m in blank.maps(one, self.layers)]
        self.discriminator = Projected(shapes, settings.channels, context.classes).to(one)
        self.discriminator.initialise(rng.generator(context.seed, "discriminator"))
        self.real_distance: dict[int, Tensor] = {}
        self.register_buffer("spread", torch.ones((), device=context.device))
        self.register_buffer("apart", torch.zeros(2, device=context.device))
        self.alarmed = False
        self.values: dict[str, float] = {}

    @property
    def betas(self) -> tuple[float, float]:
        return self.settings.betas

    @property
    def ema(self) -> float:
        return self.settings.ema

    def parameter_groups(self) -> list[Group]:
        return [Group(list(self.discriminator.parameters()), self.settings.lr_disc, "adam")]

    def work(self, synthetic: Synthetic) -> Work:
        s, real = self.settings, min(self.settings.batch_real, len(self.context.data.train))
        passes = (Pass(s.batch_syn, gradient=True, waits=True), Pass(real))
        seen = real + 2 * s.batch_syn  # the discriminator learns from synthetic images, and the set through it
        return Work(self.segments_per_worker, passes=passes, values=seen * self.discriminator.values)

    def loss(self, synthetic: Synthetic, step: int, segments: Sequence[int]) -> Tensor:
        if not self.real_distance:
            self._look_at_real_images()
        self.spread.copy_(self._spread())
        self.apart.zero_()
        terms = [self._term(synthetic, step, s) for s in segments]
        self.values = {name: sum(v[name] for _, v in terms) / len(terms) for name in terms[0][1]}
        return sum(loss for loss, _ in terms) / self.segments

    def _term(self, synthetic: Synthetic, step: int, segment: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of the discriminator plus that of the set, and their values, on one batch of each kind of image."""
        s, c, key = self.settings, self.context, (self.context.seed, "adversarial", step, segment)
        train = c.data.train
        rows = some_rows(torch.arange(len(train), device=train.x.device), s.batch_real, rng.generator(*key, "real"))
        x, y = synthetic.batch(items(len(synthetic), s.batch_syn, rng.generator(*key, "items")),
                               rng.generator(*key, "draw"))  # fmt: skip
        real_x, real_y = train.x[rows], F.one_hot(train.y[rows], c.classes).to(x)
        count = len(x) + len(real_x)  # one strategy for both kinds, else it would give them away
        drawn = runs([draw(s.augment, count, rng.generator(*key, "augment"))], [count])
        synthetic_maps = self.features.maps(apply_runs(x, drawn), self.layers)
        with torch.no_grad():
            real_maps = self.features.maps(apply_runs(real_x, drawn, len(x)), self.layers)

        on_real = self.discriminator(real_maps, real_y)
        on_synthetic = self.discriminator([m.detach() for m in synthetic_maps], y.detach())
        hinge = [F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(on_real, on_synthetic, strict=True)]
        frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        fooled = functional_call(self.discriminator, frozen, (synthetic_maps, y))
        of_discriminator, of_set = torch.stack(hinge).mean(), -torch.stack([f.mean() for f in fooled]).mean()

        self._measure(x.detach(), y.detach().argmax(1))
        right = torch.cat([(r > 0).flatten() for r in on_real] + [(f < 0).flatten() for f in on_synthetic])
        values = {"discriminator_loss": of_discriminator, "set_loss": of_set, "discriminator_right": right.float()}
        return of_discriminator + of_set, {name: v.mean().item() for name, v in values.items()}

    def _measure(self, x: Tensor, y: Tensor) -> None:
        """Add how far apart images of a class are, over that of real images, and that there was a class with two."""
        own = distance_within_class(x, y)
        both = [own[k] / self.real_distance[k] for k in own if self.real_distance.get(k)]
        if both:
            mean = torch.stack(both).mean().to(self.apart)
            self.apart += torch.stack([mean, torch.ones_like(mean)])

    def _spread(self) -> Tensor:
        """The running mean of these distances, with those of the last step, of all workers."""
        total, count = self.apart
        return self.spread.lerp(total / count, 1 - SMOOTH) if count else self.spread

    def per_worker(self) -> list[Tensor]:
        return [self.apart]

    def after_step(self, synthetic: Synthetic, step: int) -> None:
        low = self.spread.item() < self.settings.collapse  # of the steps before, the same for all workers
        if low and not self.alarmed and step >= FIRST:
            log.warning(
                "mode collapse at step %d: images of a class are %.2f times as far apart as real ones, below "
                "objective.collapse = %g; lower outer.lr_img, raise objective.batch_syn, or train for fewer steps",
                step + 1, self.spread.item(), self.settings.collapse,
            )  # fmt: skip
        self.alarmed = step >= FIRST and low

    def metrics(self) -> dict[str, float]:
        return {**self.values, "distance_within_class": self._spread().item()}

    @cached_property
    def features(self) -> Features:
        return features.of(self.settings.features, self.context)

    @torch.no_grad()
    def _look_at_real_images(self) -> None:
        """Before the first step: the scale of each feature map, and how far apart images of a class are."""
        self.discriminator.standardise(self.features.maps(self.context.data.train.x[:STANDARD], self.layers))
        self.real_distance = distance_within_class(*some_of_each(self.context))


def items(count: int, batch: int, g: torch.Generator) -> Tensor:
    """`batch` random items (batch,) out of `count`, each as often as any other: class by class in equal parts."""
    passes = [torch.randperm(count, generator=g) for _ in range(-(-batch // count))]
    return torch.cat(passes)[:batch]


def some_of_each(context: Context) -> tuple[Tensor, Tensor]:
    """Images and classes of up to MEASURED training images of each class."""
    train, g = context.data.train, rng.generator(context.seed, "distances")
    rows = torch.cat([some_rows(r, MEASURED, g) for r in rows_of_classes(train.y, context.classes)])
    return train.x[rows], train.y[rows]


def distance_within_class(x: Tensor, y: Tensor) -> dict[int, Tensor]:
    """For each class of y (n,) with two images or more, the mean distance of pairs of its images x (n, c, h, w)."""
    apart = {}
    for k in y.unique().tolist():
        own = x[y == k].flatten(1)
        if len(own) > 1:
            apart[k] = torch.pdist(own).mean()
    return apart
