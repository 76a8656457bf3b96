"""Bases and hallucinators: each pair of a base and a small network gives a training image (HaBa, Liu et al. 2022).

n bases per class and k hallucinators, which all classes share, give n * k training images per class. In every step each
base meets a random hallucinator or several; a network that is judged is trained on all pairs. The hallucinator is in
distill/nets/hallucinator.py.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill import recipe, rng
from distill.context import Context
from distill.data.preprocess import Preprocess
from distill.engine.inner import cross_entropy
from distill.errors import RecipeError
from distill.nets import Network, hallucinator
from distill.published.forms import Sampler
from distill.recipe import Outer, Sampling
from distill.synthetic.base import Budget, Group, Synthetic
from distill.synthetic.pixels import Pixels, real_images

NOISE = 0.1
"""Share of PyTorch's default weights in hallucinators that start near the identity: what makes them differ."""
TEMPERATURE = 0.07
"""Of the critic's contrastive term (Khosla et al. 2020)."""


class Factorized(Synthetic, kind="factorized"):
    """Bases (classes * ipc, c, h, w), ordered by class, and the weights of k hallucinators (hallucinator.WEIGHTS).

    Item i is base i // pairs; `pairs` items of a base meet different hallucinators, drawn anew for every batch.
    """

    def __init__(self, settings: recipe.Factorized, bases: Tensor, weights: dict[str, Tensor], context: Context):
        super().__init__()
        self.settings, self.classes, self.image = settings, context.classes, context.data.shape[1:]
        self.pairs = settings.pairs or settings.hallucinators
        self.bases = nn.Parameter(bases)
        self.hallucinators = nn.ParameterDict({name: weights[name] for name in hallucinator.WEIGHTS})
        self.network = Network(context.network.module)
        critic = self.network.init(rng.generator(context.seed, "critic")) if settings.critic_lr else None
        self.critic = None if critic is None else nn.Parameter(critic.to(bases.device))

    # ------------------------------------------------------------ from a recipe

    @classmethod
    def build(cls, settings: recipe.Factorized, context: Context) -> "Factorized":
        """Bases of real images or noise, and fresh hallucinators. DataError when a class has too few images."""
        made = cls.blank(settings, context)
        if settings.init == "real":
            g = rng.generator(context.seed, "synthetic init")
            x = real_images(context.data.train, context.classes, settings.ipc, g)
            x = F.interpolate(x, tuple(made.bases.shape[2:]), mode="area")
            if made.bases.shape[1] != x.shape[1]:
                x = x.mean(1, keepdim=True).expand(-1, made.bases.shape[1], -1, -1)
            with torch.no_grad():
                made.bases.copy_(x)
        return made

    @classmethod
    def blank(cls, settings: recipe.Factorized, context: Context) -> "Factorized":
        """Bases of noise, and fresh hallucinators. Raises RecipeError for bases larger than an image."""
        (c, h, w), train = context.data.shape, context.data.train.x
        height, width = settings.height or h, settings.width or w
        if height > h or width > w:
            raise RecipeError(
                f"synthetic.height: bases of {width}x{height} are larger than images of {w}x{h}: lower it"
            )
        if min(h, w) < 3:
            raise RecipeError(f"images of {w}x{h} are smaller than a hallucinator's 3x3 convolution")
        channels = settings.channels or c
        g = rng.generator(context.seed, "synthetic init")
        x = torch.randn(context.classes * settings.ipc, channels, height, width, generator=g)
        x = (x * train.std().cpu() + train.mean().cpu()).to(train)
        weights = _fresh(settings, channels, context.data.shape, rng.generator(context.seed, "hallucinators"))
        return cls(settings, x, {name: t.to(x) for name, t in weights.items()}, context)

    # ------------------------------------------------------------ training images

    def __len__(self) -> int:
        return len(self.bases) * self.pairs

    def images(self, index: Tensor, generator: torch.Generator) -> Tensor:
        base, count = index // self.pairs, self.settings.hallucinators
        # For all bases, so that an item's hallucinator does not depend on which others are asked for.
        drawn = torch.rand(len(self.bases), count, generator=generator).argsort(1)[:, : self.pairs]
        which = index % self.pairs if self.pairs == count else drawn[base, index % self.pairs]
        return self.pair(base, which)

    def pair(self, base: Tensor, which: Tensor) -> Tensor:
        """Images (b, c, h, w) of the bases `base` (b,) by the hallucinators `which` (b,)."""
        x = self.bases.index_select(0, base.to(self.bases.device))
        return hallucinator.hallucinate(self.hallucinators, x, which, self.image)

    def labels(self, index: Tensor) -> Tensor:
        label = index.to(self.bases.device) // (self.pairs * self.settings.ipc)
        return F.one_hot(label, self.classes).to(self.bases)

    def sampled(self, settings: Sampling, generator: torch.Generator) -> Synthetic:
        """All pairs, or a random choice of them."""
        per_class = settings.per_class or self.settings.ipc * self.settings.hallucinators
        labels = torch.arange(self.classes).repeat_interleave(per_class)
        x = self.stored().fresh(labels, generator)
        return Pixels(x, F.one_hot(labels, self.classes).to(x), recipe.Labels())

    # ------------------------------------------------------------ learning

    def parameter_groups(self, outer: Outer) -> list[Group]:
        s = self.settings
        groups = [
            Group([self.bases], outer.lr_img),
            Group(list(self.hallucinators.values()), s.lr_hallucinator, s.optimizer),
        ]
        return groups if self.critic is None else [*groups, Group([self.critic], s.critic_lr, "adam")]

    def penalty(self, step: int, generator: torch.Generator) -> Tensor | float:
        """How alike a base's images by two hallucinators are in the features of a network (section 3.3).

        The network is a fresh one in each step or, with a learning rate, a critic: it learns to classify the images and
        to tell which two are of one base, and the set learns against it.
        """
        s = self.settings
        if not s.contrast:
            return 0.0
        bases = torch.arange(len(self.bases))
        two = torch.rand(len(bases), s.hallucinators, generator=generator).argsort(1)[:, :2]
        x = self.pair(bases.repeat(2), two.T.flatten())
        if self.critic is None:
            theta = self.network.init(generator).to(x)
        else:
            theta = self.critic.detach()
        one, other = F.normalize(self.network.features(theta, x)).chunk(2)
        alike = s.contrast * (1 + (one * other).sum(1)).mean() / 2
        return alike if self.critic is None else alike + self._critic_loss(x.detach(), bases)

    def _critic_loss(self, x: Tensor, bases: Tensor) -> Tensor:
        """Cross-entropy of the classes of images x (2 n, c, h, w), and of which other image is of the same base."""
        classes = F.one_hot(bases // self.settings.ipc, self.classes).to(x).repeat(2, 1)
        one, other = F.normalize(self.network.features(self.critic, x)).chunk(2)
        same = F.cross_entropy(one @ other.T / TEMPERATURE, bases.to(x.device))
        return cross_entropy(self.network(self.critic, x), classes) + self.settings.contrast * same

    def published_state(self) -> dict[str, Tensor]:
        """Bases and hallucinators, without the critic."""
        return {name: t for name, t in self.learned_state().items() if name != "critic"}

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        if self.critic is not None:
            state = {"critic": self.critic.detach()} | state  # a published set has none
        self.load_state_dict(state)

    # ------------------------------------------------------------ what is stored and shown

    def budget(self) -> Budget:
        """Bases and hallucinators; HaBa does not count the latter."""
        hallucinators = sum(p.numel() for p in self.hallucinators.values())
        return Budget({"bases": self.bases.numel(), "hallucinators": hallucinators})

    def stored(self) -> Sampler:
        """Bases, hallucinators and the code that pairs them; a training set of it has every pair once."""
        weights = {"bases": self.bases, **self.hallucinators}
        return Sampler(
            {name: t.detach() for name, t in weights.items()},
            hallucinator.__name__,
            {"size": list(self.image), "bases_per_class": self.settings.ipc},
            self.classes,
            self.settings.ipc * self.settings.hallucinators,
        )

    def describe(self) -> str:
        h, w = self.bases.shape[2:]
        return (
            f"{len(self.bases)} bases of {w}x{h} and {self.settings.hallucinators} hallucinators, {len(self)} at a time"
        )

    def measures(self, preprocess: Preprocess) -> dict[str, float]:
        """How different a base's images by different hallucinators are, in deviations of all pixels."""
        x = self.stored().images().view(len(self.bases), self.settings.hallucinators, -1)
        return {"variety": (x.std(1).mean() / x.std()).item() if self.settings.hallucinators > 1 else 0.0}


def _fresh(
    settings: recipe.Factorized, channels: int, image: tuple[int, int, int], g: torch.Generator
) -> dict[str, Tensor]:
    """The weights of fresh hallucinators: PyTorch's default convolutions, or nearly the identity; scale 1, shift 0."""
    n, (c, h, w), m = settings.hallucinators, image, settings.features or image[0]
    bounds = 1 / math.sqrt(9 * channels), 1 / math.sqrt(9 * c)

    def uniform(bound: float, *shape: int) -> Tensor:
        return (2 * torch.rand(shape, generator=g) - 1) * bound

    weights = {
        "encoder": uniform(bounds[0], n, m, channels, 3, 3),
        "encoder_bias": uniform(bounds[0], n, m),
        "scale": torch.ones(n, m, h - 2, w - 2),
        "shift": torch.zeros(n, m, h - 2, w - 2),
        "decoder": uniform(bounds[1], n, m, c, 3, 3),
        "decoder_bias": uniform(bounds[1], n, c),
    }
    if settings.start == "identity":
        encoder, decoder = torch.zeros(m, channels, 3, 3), torch.zeros(m, c, 3, 3)
        feature = torch.arange(m)
        encoder[feature, feature % channels, 1, 1] = 1
        decoder[feature, feature % c, 1, 1] = 1
        decoder /= decoder.sum(0)[:, 1, 1].clamp(min=1)[:, None, None]
        small = {name: NOISE * t for name, t in weights.items() if name not in ("scale", "shift")}
        weights |= small | {"encoder": small["encoder"] + encoder, "decoder": small["decoder"] + decoder}
    return weights
