"""Codes of a frozen generator are learned: latents z, w, or feature maps in the middle of the synthesis network.

IT-GAN (Zhao & Bilen 2022): codes start from inverted real images and are distilled, with a penalty that keeps them
apart. GLaD (Cazenavette et al. 2023): feature maps are the codes. With a distilled generator it is LatentDM or
LatentTTM
(generative thesis, section 3.6.1). Images are rendered without noise, so that a code is an image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill import recipe, rng
from distill.context import Context
from distill.errors import RecipeError
from distill.nets import Network, stylegan2
from distill.published.forms import Sampler
from distill.recipe import Outer
from distill.synthetic.base import Budget, Group, Synthetic
from distill.synthetic.generator import check_fits, fresh, frozen_of, published_start
from distill.synthetic.pixels import real_images


class Latents(Synthetic, kind="latents"):
    """Codes by name, each (classes * ipc, ...), ordered by class, and the generator `net` that renders them.

    `z` (n, z); or `w` (n, w); or `x` (n, maps, r, r), `image` (n, c, r, r) and `w` (n, w), to continue from there.
    """

    def __init__(
        self, settings: recipe.Latents, net: stylegan2.Generator, draw: dict, classes: int, network: Network,
    ):  # fmt: skip
        super().__init__()
        self.settings, self.net, self.draw, self.classes, self.network = settings, net, draw, classes, network
        self.codes = nn.ParameterDict()
        self.register_buffer("inverted", torch.empty(0), persistent=False)

    # ------------------------------------------------------------ from a recipe

    @classmethod
    def build(cls, settings: recipe.Latents, context: Context) -> "Latents":
        """Codes of random latents, or inverted from random real images.

        Raises RecipeError if the generator does not fit the data or has no such block, DataError for a file that
        cannot be read or when a class has too few images.
        """
        made = cls.blank(settings, context).to(context.device)
        if settings.init == "real":
            g = rng.generator(context.seed, "inversion")
            made.inverted = real_images(context.data.train, context.classes, settings.ipc, g)
            made.invert(made.inverted)
        return made

    @classmethod
    def blank(cls, settings: recipe.Latents, context: Context) -> "Latents":
        published = published_start(settings)
        if published and not isinstance(published.stored, Sampler):
            raise RecipeError(f"{settings.file}: it stores images, not a generator: give one distilled with "
                              'synthetic.kind = "generator"')  # fmt: skip
        if published:
            check_fits(published, context)
        net, draw = frozen_of(published.stored) if published else fresh(settings, context)
        made = cls(settings, net.requires_grad_(False), draw, context.classes, context.network)
        if settings.space == "feature" and made.block not in net.size.sides[1:]:
            raise RecipeError(
                f"synthetic.feature = {settings.feature}: this generator continues at "
                f"{', '.join(map(str, net.size.sides[1:])) or 'no resolution'}"
            )
        made._start(rng.generator(context.seed, "codes"))
        return made.to(context.data.train.x)

    @property
    def block(self) -> int:
        """Resolution of the first block that renders feature codes."""
        return self.settings.feature or self.net.size.resolution

    def _start(self, g: torch.Generator) -> None:
        """Codes of random latents."""
        z = self.net.latents(len(self), g)
        with torch.no_grad():
            w = self.net.mapping(z, self._classes(torch.arange(len(self))))
            x, image = self.net.synthesis(w, stop=self.block // 2)
        feature = {"x": x, "image": image, "w": w}
        codes = {"z": {"z": z}, "w": {"w": w}, "feature": feature}[self.settings.space]
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
        if "z" in code:
            code["w"] = self.net.mapping(code["z"], self._classes(index))
        start = self.block if "x" in code else 4
        _, image = self.net.synthesis(code["w"], None, start, code.get("x"), code.get("image"))
        return stylegan2.finished(image, self.draw)

    def _classes(self, index: Tensor) -> Tensor:
        return (index // self.settings.ipc).to(self.net.synthesis.b4.const.device)

    def labels(self, index: Tensor) -> Tensor:
        return F.one_hot(self._classes(index), self.classes).to(self.net.synthesis.b4.const)

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
        with torch.no_grad():
            for name, p in self.codes.items():
                p.copy_(state[name])

    # ------------------------------------------------------------ what is stored and shown

    def budget(self) -> Budget:
        codes = {name: p.numel() for name, p in self.codes.items()}
        return Budget(codes, {"frozen generator": sum(p.numel() for p in self.net.parameters())})

    def describe(self) -> str:
        space = (
            f"feature maps before resolution {self.block}" if self.settings.space == "feature" else self.settings.space
        )
        return f"{len(self)} codes ({space}) of a frozen StyleGAN2"
