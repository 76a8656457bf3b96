"""The weights of a small StyleGAN-XL are the distilled set, or with `objective.kind = "adversarial"` a GAN that grows.

    stillhouse distill cifar10-1ipc-small dataset.size=32 synthetic.kind=generator_xl synthetic.start=grown \
        synthetic.stem=16 synthetic.size.channel_max=16 objective.kind=adversarial

A stage of progressive training (Sauer et al. 2022, section 3.2) is a run of its own at its resolution, which starts
from what the run of half the resolution published: its layers are kept and frozen, except the last ones, which new ones
replace.
"""

import copy
import math
from bisect import bisect_right

import torch
import torch.nn.functional as F
from torch import Tensor

from distill import recipe, rng
from distill.context import Context
from distill.errors import RecipeError
from distill.nets import stylegan_xl
from distill.nets.stylegan2 import AVERAGED, MOST_CHANNELS, MOST_CODE
from distill.nets.stylegan_xl import StyleGANXL
from distill.published.forms import Sampler
from distill.recipe import Outer, Sampling
from distill.synthetic.base import Budget, Group, Synthetic
from distill.synthetic.generator import Generator
from distill.synthetic.starts import check_drawn_by, drawn_for, own_weights, published_start

MODULE = "distill.nets.stylegan_xl"
SETTLING = 32
"""Images, at most, by which the magnitudes of new layers are measured once."""


class GeneratorXL(Generator, kind="generator_xl"):
    """A StyleGAN-XL `net` with its settings for drawing; an item is any image of its class."""

    net: StyleGANXL

    # ------------------------------------------------------------ from a recipe

    @classmethod
    def build(cls, settings: recipe.GeneratorXL, context: Context) -> "GeneratorXL":
        """Random weights, those of a file or of a GAN, or the next stage of a GAN of half the resolution.

        Raises RecipeError if the budget is below the smallest generator or the GAN is missing, DataError for a file
        that cannot be read, and RecipeError for one that does not fit the data.
        """
        made, before = cls.blank(settings, context).to(context.device), context.before
        if settings.start in ("gan", "grown") and before is None:
            raise RecipeError(
                f'synthetic.start = "{settings.start}": the GAN is not trained yet; stillhouse distill trains it'
            )
        if settings.start == "gan":
            made.load_learned_state({name: t.to(context.device) for name, t in before.state.items()})
        elif settings.start in ("random", "grown"):
            if settings.start == "grown":
                smaller = stylegan_xl.loaded(before.state, before.stored.settings)
                made.net = grown(smaller, made.net.resolution, settings, context).to(context.data.train.x)
            settle(made.net, context.classes, rng.generator(context.seed, "magnitudes"))
        return made

    @classmethod
    def blank(cls, settings: recipe.GeneratorXL, context: Context) -> "GeneratorXL":
        published = published_start(settings, context)
        if published:
            if not isinstance(published.stored, Sampler):
                raise RecipeError(f"{settings.file}: it stores images, not a generator")
            check_drawn_by(published.stored, MODULE)
            stored = drawn_for(published, context)
            net, draw = stylegan_xl.loaded(own_weights(stored), stored.settings), stored.settings
        else:
            net = fresh(settings, context).to(context.data.train.x)
            draw = net.settings(context.data.shape[1:])
        if settings.start != "grown":
            net.requires_grad_()
        return cls(net, draw, context.classes, settings.per_class)

    # ------------------------------------------------------------ training images

    def images(self, index: Tensor, generator: torch.Generator) -> Tensor:
        z = torch.randn(len(index), self.net.z_dim, generator=generator).to(self._like)
        return self.rendered(z, (index // self.per_class).to(z.device))

    def rendered(self, z: Tensor, labels: Tensor, noise: None = None) -> Tensor:
        return stylegan_xl.finished(self.net(z, labels, self.truncation), self.draw)

    def labels(self, index: Tensor) -> Tensor:
        return F.one_hot(index.to(self._like.device) // self.per_class, self.classes).to(self._like)

    @property
    def _like(self) -> Tensor:
        return self.net.synthesis.input.weight

    def sampled(self, settings: Sampling, generator: torch.Generator) -> Synthetic:
        if settings.per_class or settings.truncation == 1:
            return super().sampled(settings, generator)
        truncated = copy.deepcopy(self)
        truncated.net.mapping.measure(AVERAGED, torch.Generator().manual_seed(0))
        truncated.truncation = settings.truncation
        return truncated

    # ------------------------------------------------------------ learning

    def parameter_groups(self, outer: Outer) -> list[Group]:
        return [Group([p for p in self.net.parameters() if p.requires_grad], outer.lr_img, "adam")]

    def learned_state(self) -> dict[str, Tensor]:
        """Weights and fixed values alike: what was kept of an earlier stage is in no file of this run's but this."""
        return {name: t.detach() for name, t in self.net.state_dict().items()}

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        self.net.load_state_dict(state)

    # ------------------------------------------------------------ what is stored and shown

    def budget(self) -> Budget:
        return Budget({"weights": floats(self.net)})

    def stored(self) -> Sampler:
        """With the mean w of each class, for truncation."""
        net = copy.deepcopy(self.net)
        net.mapping.measure(AVERAGED, torch.Generator().manual_seed(0))
        weights = {name: t.detach() for name, t in net.state_dict().items()}
        return Sampler(weights, MODULE, self.draw, self.classes, self.per_class)

    def describe(self) -> str:
        net, frozen = self.net, f", {self.net.frozen} of them frozen" if self.net.frozen else ""
        channels = net.plan[0].target.channels
        return (
            f"a StyleGAN-XL with {len(net.plan)} layers of {channels} maps{frozen}, w {net.w_dim}, z {net.z_dim}; "
            f"{self.per_class} fresh images per class and pass"
        )


# ---------------------------------------------------------------- generators of recipes


def fresh(settings: recipe.GeneratorXL, context: Context) -> StyleGANXL:
    """A generator of the size that the settings ask for: random weights, or those that a stage would add."""
    s, (c, h, w), g = settings.size, context.data.shape, rng.generator(context.seed, "synthetic init")
    if s.channel_max:
        return sized(settings, s.channel_max, 0, (c, h, w), context.classes, g)
    budget = s.floats or math.floor(settings.ipc * context.classes * c * h * w + 1e-6)

    def total(maps: int, width: int = 0) -> int:
        with torch.device("meta"):
            return floats(sized(settings, maps, width, (c, h, w), context.classes, None))

    if total(1) > budget:
        raise RecipeError(
            f"synthetic: a budget of {budget:,} floats: the smallest StyleGAN-XL of these layers has {total(1):,}: "
            "raise synthetic.ipc or synthetic.size.floats, or lower synthetic.stem_layers"
        )
    maps = bisect_right(range(1, MOST_CHANNELS + 1), budget, key=total)
    widths = range(min(2 * maps, MOST_CODE), MOST_CODE + 1)  # w takes the rest
    width = widths[bisect_right(widths, budget, key=lambda width: total(maps, width)) - 1]
    return sized(settings, maps, width, (c, h, w), context.classes, g)


def sized(
    settings: recipe.GeneratorXL,
    maps: int,
    width: int,
    shape: tuple[int, int, int],
    classes: int,
    g: torch.Generator | None,
) -> StyleGANXL:
    """A generator with `maps` maps in every layer, for images (c, h, w): one stage, or all that `grown` has.

    w has `width` values (0: twice as many as maps), unless the settings say otherwise.
    """
    s, (c, h, w) = settings.size, shape
    resolution = max(8, 1 << (max(h, w) - 1).bit_length())
    width = s.w or width or min(2 * maps, MOST_CODE)
    staged = settings.stem and settings.start in ("gan", "grown")
    stem = settings.stem if staged else resolution
    net = StyleGANXL(
        stylegan_xl.plan(stem, settings.stem_layers, maps * 2 * stem, maps, c),
        classes, s.z or width, width, s.mapping, s.embedding or width, generator=g,
    )  # fmt: skip
    while net.resolution < resolution:
        side = 2 * net.resolution
        net = stylegan_xl.grow(net, side, settings.stage_layers, g, maps * 2 * side, maps)
    return net


def grown(smaller: StyleGANXL, resolution: int, settings: recipe.GeneratorXL, context: Context) -> StyleGANXL:
    """The next stage of a generator, with random new layers."""
    maps, g = settings.size.channel_max, rng.generator(context.seed, "synthetic init", resolution)
    return stylegan_xl.grow(smaller, resolution, settings.stage_layers, g, maps * 2 * resolution, maps)


@torch.no_grad()
def settle(net: StyleGANXL, classes: int, g: torch.Generator) -> None:
    """Measure the magnitudes that layers which are not frozen divide their inputs by, once, so that no step has to."""
    z = torch.randn(SETTLING, net.z_dim, generator=g).to(net.synthesis.input.weight)
    w = net.mapping(z, torch.arange(SETTLING, device=z.device) % classes)
    x = net.synthesis.input(w)
    for i, layer in enumerate(net.synthesis.layers):
        x = layer(x, w, None if i < net.frozen else 0.0)


def floats(net: StyleGANXL) -> int:
    """Number of stored values."""
    return sum(t.numel() for t in net.state_dict().values())
