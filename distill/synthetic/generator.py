"""The weights of a small StyleGAN2 are the distilled set: it makes as many training images as one likes.

Generative dataset distillation (master's thesis, section 3.6 and algorithm 3): with `distribution` it is GenDM, with
`trajectory` GenTTM. Each batch has fresh latents and noise, and as many images of each class; the engine draws a batch
once more on the way back, so that no image is kept.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from distill import recipe, rng
from distill.context import Context
from distill.data.preprocess import Preprocess
from distill.errors import RecipeError
from distill.nets import stylegan2
from distill.published.forms import Sampler
from distill.recipe import Outer, Sampling
from distill.synthetic.base import Budget, Group, Synthetic
from distill.synthetic.fitting import fit
from distill.synthetic.pixels import Pixels
from distill.synthetic.starts import check_drawn_by, drawn_for, own_weights, published_start, seen_here

MODULE = "distill.nets.stylegan2"
UNTRAINED = 'synthetic.start = "gan": the GAN is not trained yet; stillhouse distill trains it'


class Generator(Synthetic, kind="generator"):
    """A generator `net` with its settings for drawing; an item is any image of its class, `per_class` in one pass."""

    remade = True

    def __init__(self, net: stylegan2.Generator, draw: dict, classes: int, per_class: int, truncation: float = 1.0):
        super().__init__()
        self.net, self.draw, self.classes, self.per_class, self.truncation = net, draw, classes, per_class, truncation

    # ------------------------------------------------------------ from a recipe

    @classmethod
    def build(cls, settings: recipe.Generator, context: Context) -> "Generator":
        """Random weights, those of a file or of a GAN, or weights fitted to real images or to those of a published set.

        Raises RecipeError if the budget is below the smallest generator or the GAN is missing, DataError for a file
        that cannot be read, and RecipeError for one that does not fit the data.
        """
        made = cls.blank(settings, context).to(context.device)
        if settings.start == "gan":
            if context.before is None:
                raise RecipeError(UNTRAINED)
            made.load_learned_state({name: t.to(context.device) for name, t in context.before.state.items()})
            return made
        published = published_start(settings, context)
        if settings.start == "random" or (published and isinstance(published.stored, Sampler)):
            return made
        x, y = context.data.train.x, context.data.train.y
        if published:
            x = seen_here(published.images.to(x), published.preprocess, context.data.preprocess)
            y = published.labels.argmax(1).to(y)
        fit(made, x, y, settings.fit_steps, settings.fit_lr, context.seed)
        return made

    @classmethod
    def blank(cls, settings: recipe.Generator, context: Context) -> "Generator":
        published = published_start(settings, context)
        if published and isinstance(published.stored, Sampler):
            check_drawn_by(published.stored, MODULE)
            stored = drawn_for(published, context)
            net, draw = stylegan2.loaded(own_weights(stored), stored.settings), stored.settings
        else:
            net, draw = fresh(settings, context)
        return cls(net.requires_grad_(), draw, context.classes, settings.per_class)

    # ------------------------------------------------------------ training images

    def __len__(self) -> int:
        return self.classes * self.per_class

    def images(self, index: Tensor, generator: torch.Generator) -> Tensor:
        z, noise = self.net.latents(len(index), generator), self.net.noise(len(index), generator)
        return self.rendered(z, (index // self.per_class).to(z.device), noise)

    def rendered(self, z: Tensor, labels: Tensor, noise: list[Tensor] | None) -> Tensor:
        """Images (n, c, h, w) as networks see them, of latents z (n, z) and classes (n,)."""
        return stylegan2.finished(self.net(z, labels, noise, self.truncation), self.draw)

    def labels(self, index: Tensor) -> Tensor:
        const = self.net.synthesis.b4.const
        return F.one_hot(index.to(const.device) // self.per_class, self.classes).to(const)

    def sampled(self, settings: Sampling, generator: torch.Generator) -> Synthetic:
        if settings.per_class:
            classes = torch.arange(self.classes).repeat_interleave(settings.per_class)
            x = self.stored().fresh(classes, generator, settings.truncation)
            return Pixels(x, F.one_hot(classes, self.classes).to(x), recipe.Labels())
        if settings.truncation == 1:
            return self
        truncated = copy.deepcopy(self)
        truncated.net.mapping.w_avg, truncated.truncation = self.net.mean_w(), settings.truncation
        return truncated

    # ------------------------------------------------------------ learning

    def parameter_groups(self, outer: Outer) -> list[Group]:
        return [Group(list(self.net.parameters()), outer.lr_img, "adam")]

    def learned_state(self) -> dict[str, Tensor]:
        """The weights; constant noise and the mean w are not used."""
        return {name: p.detach() for name, p in self.net.named_parameters()}

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, p in self.net.named_parameters():
                p.copy_(state[name])

    # ------------------------------------------------------------ what is stored and shown

    def budget(self) -> Budget:
        return Budget({"weights": sum(p.numel() for p in self.net.parameters())})

    def stored(self) -> Sampler:
        return Sampler(self.learned_state(), MODULE, self.draw, self.classes, self.per_class)

    def describe(self) -> str:
        s = self.net.size
        maps = "/".join(str(s.maps(side)) for side in s.sides)
        return f"a StyleGAN2 with {maps} maps, w {s.w}, z {s.z}; {self.per_class} fresh images per class and pass"

    def measures(self, preprocess: Preprocess) -> dict[str, float]:
        """Mean deviation within a class of the values of its images: near 0 after mode collapse."""
        x = self.stored().images().view(self.classes, self.per_class, -1)
        return {"deviation_within_class": x.std(1, correction=0).mean().item()}


# ---------------------------------------------------------------- generators of recipes and files


def fresh(settings: recipe.Generator | recipe.Latents, context: Context) -> tuple[stylegan2.Generator, dict]:
    """A generator with random weights, of the size that the settings ask for, and its settings for drawing."""
    size = size_of(settings, context.data.shape, context.classes)
    net = stylegan2.Generator(size).initialise(rng.generator(context.seed, "synthetic init"))
    return net.to(context.data.train.x), stylegan2.settings(size, context.data.shape[1:])


def size_of(settings: recipe.Generator | recipe.Latents, shape: tuple[int, int, int], classes: int) -> stylegan2.Size:
    """The size of a generator of images (c, h, w); of the largest within the budget, if it has no explicit one."""
    c, h, w = shape
    s, resolution = settings.size, max(4, 1 << (max(h, w) - 1).bit_length())
    if s.channel_max:
        width = s.w or min(2 * s.channel_max, stylegan2.MOST_CODE)
        base = s.channel_base or s.channel_max * resolution
        return stylegan2.Size(
            resolution, c, classes, s.z or width, width, s.mapping, base, s.channel_max, s.lr_multiplier
        )
    budget = s.floats or math.floor(settings.ipc * classes * math.prod(shape) + 1e-6)
    try:
        return stylegan2.fit(budget, resolution, c, classes, s.w, s.z, s.mapping, s.channel_base, s.lr_multiplier)
    except ValueError as error:
        raise RecipeError(f"synthetic: {error}: raise synthetic.ipc or synthetic.size.floats") from None
