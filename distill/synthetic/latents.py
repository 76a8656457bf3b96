"""Codes of a frozen generator are learned: latents z, w, or feature maps in the middle of the synthesis network.

IT-GAN (Zhao & Bilen 2022): codes start from inverted real images and are distilled, with a penalty that keeps them
apart. GLaD (Cazenavette et al. 2023): feature maps are the codes. With a distilled generator it is LatentDM or
LatentTTM (generative thesis, section 3.6.1). Images are rendered without noise, so that a code is an image.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill import recipe, rng
from distill.context import Context
from distill.errors import RecipeError
from distill.nets import Network
from distill.published.forms import Sampler
from distill.recipe import Outer
from distill.synthetic.base import Budget, Group, Synthetic
from distill.synthetic.frozen import Frozen, FrozenStyleGAN2, frozen_of
from distill.synthetic.generator import UNTRAINED, fresh
from distill.synthetic.pixels import real_images
from distill.synthetic.starts import published_start, seen_here


class Latents(Synthetic, kind="latents"):
    """Codes by name, each (classes * ipc, ...), ordered by class, and the generator `frozen` that renders them.

    `z` (n, z); or `w` (n, w); or what `frozen.middle` gives, and `w` (n, w), to continue from there. `seen` makes of
    its images, as its own training saw them, what the networks of the recipe see.
    """

    def __init__(
        self, settings: recipe.Latents, frozen: Frozen, classes: int, network: Network, seen: Callable | None = None
    ):
        super().__init__()
        self.settings, self.frozen, self.classes, self.network = settings, frozen, classes, network
        self.seen = seen or (lambda images: images)
        self.codes = nn.ParameterDict()
        self.register_buffer("inverted", torch.empty(0), persistent=False)

    @property
    def net(self) -> nn.Module:
        """The generator."""
        return self.frozen.net

    # ------------------------------------------------------------ from a recipe

    @classmethod
    def build(cls, settings: recipe.Latents, context: Context) -> "Latents":
        """Codes of random latents, or inverted from random real images.

        Raises RecipeError if the generator does not fit the data, has no such place in the middle or is a GAN that is
        missing, DataError for a file that cannot be read or when a class has too few images.
        """
        if settings.start == "gan" and context.before is None:
            raise RecipeError(UNTRAINED)
        made = cls.blank(settings, context).to(context.device)
        if settings.init == "real":
            g = rng.generator(context.seed, "inversion")
            made.inverted = real_images(context.data.train, context.classes, settings.ipc, g)
            made.invert(made.inverted)
        return made

    @classmethod
    def blank(cls, settings: recipe.Latents, context: Context) -> "Latents":
        published = context.before if settings.start == "gan" else published_start(settings, context)
        if published and not isinstance(published.stored, Sampler):
            raise RecipeError(f"{settings.file}: it stores images, not a generator: give one distilled with "
                              'synthetic.kind = "generator"')  # fmt: skip
        if published:
            frozen = frozen_of(published.stored, settings.feature)
        else:
            frozen = FrozenStyleGAN2(*fresh(settings, context), settings.feature)
        ours = context.data.preprocess
        seen = partial(seen_here, theirs=published.preprocess, ours=ours) if published else None
        made = cls(settings, frozen, context.classes, context.network, seen).to(context.data.train.x)
        made._start(rng.generator(context.seed, "codes"))
        return made.to(context.data.train.x)

    def _start(self, g: torch.Generator) -> None:
        """Codes of random latents."""
        z = self.frozen.latents(len(self), g)
        if self.settings.space == "z":
            codes = {"z": z}
        else:
            with torch.no_grad():
                w = self.frozen.w(z, self._classes(torch.arange(len(self))))
                codes = (self.frozen.middle(w) if self.settings.space == "feature" else {}) | {"w": w}
        self.codes = nn.ParameterDict({name: nn.Parameter(code.clone()) for name, code in codes.items()})

    def invert(self, target: Tensor) -> None:
        """Move the codes towards those that render `target`, (n, c, h, w), by Adam on the distance of pixels."""
        optimizer, index = torch.optim.Adam(self.codes.values(), self.settings.invert_lr), torch.arange(len(self))
        for _ in range(self.settings.invert_steps):
            optimizer.zero_grad()
            (self._rendered(index) - target).square().mean(0).sum().backward()
            optimizer.step()
        optimizer.zero_grad()

    # ------------------------------------------------------------ training images

    def __len__(self) -> int:
        return self.classes * self.settings.ipc

    def images(self, index: Tensor, generator: torch.Generator) -> Tensor:
        return self._rendered(index)

    def _rendered(self, index: Tensor) -> Tensor:
        code = {name: p[index.to(p.device)] for name, p in self.codes.items()}
        w = self.frozen.w(code.pop("z"), self._classes(index)) if "z" in code else code.pop("w")
        return self.seen(self.frozen.image(w, code or None))

    def _classes(self, index: Tensor) -> Tensor:
        return (index // self.settings.ipc).to(self.frozen.like.device)

    def labels(self, index: Tensor) -> Tensor:
        return F.one_hot(self._classes(index), self.classes).to(self.frozen.like)

    # ------------------------------------------------------------ learning

    def parameter_groups(self, outer: Outer) -> list[Group]:
        return [Group(list(self.codes.values()), outer.lr_img)]

    def penalty(self, step: int, generator: torch.Generator) -> Tensor | float:
        if not self.settings.diversity:
            return 0.0
        theta = self.network.init(generator).to(self.inverted)
        with torch.no_grad():
            real = self.network.features(theta, self.inverted)
        own = self.network.features(theta, self._rendered(torch.arange(len(self))))
        return self.settings.diversity * (own - real).square().mean()

    def learned_state(self) -> dict[str, Tensor]:
        """The codes; the generator is in its file."""
        return {name: p.detach() for name, p in self.codes.items()}

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        own = dict(self.codes.items()) | {f"generator.{name}": p for name, p in self.net.named_parameters()}
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)

    def published_state(self) -> dict[str, Tensor]:
        """The codes, and of a GAN that was trained first the generator, which is in no file that a recipe names."""
        if self.settings.start != "gan":
            return self.learned_state()
        weights = {f"generator.{name}": p.detach() for name, p in self.net.named_parameters()}
        return self.learned_state() | weights

    # ------------------------------------------------------------ what is stored and shown

    def budget(self) -> Budget:
        codes = {name: p.numel() for name, p in self.codes.items()}
        return Budget(codes, {"frozen generator": sum(p.numel() for p in self.net.parameters())})

    def describe(self) -> str:
        space = self.settings.space
        where = f"feature maps {self.frozen.where}" if space == "feature" else space
        return f"{len(self)} codes ({where}) of a frozen {self.frozen.name}"
