"""A frozen generator as the renderer of codes, StyleGAN2 or StyleGAN-XL: `frozen_of(stored)`, from a published set.

    frozen.w(z, labels)                  # (n, w)
    frozen.middle(w)                     # {"x": feature maps, ...}: codes in the middle of the synthesis network
    frozen.image(w, codes)               # (n, c, h, w) from w, and from there if codes are given

Noise is the constant one of the file, or none, so that a code is always the same image.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from distill.errors import RecipeError
from distill.nets import stylegan2, stylegan_xl
from distill.published.forms import Sampler
from distill.synthetic.starts import own_weights


class Frozen(ABC, nn.Module):
    """A generator `net` without gradients, and its settings for drawing."""

    name: str

    def __init__(self, net: nn.Module, draw: dict, at: int = 0):
        super().__init__()
        self.net, self.draw, self.at = net.requires_grad_(False), draw, self._place(net, at)

    @property
    @abstractmethod
    def like(self) -> Tensor:
        """A tensor of the generator, for device and type."""

    @abstractmethod
    def latents(self, n: int, g: torch.Generator) -> Tensor:
        """Random z (n, z)."""

    def w(self, z: Tensor, labels: Tensor) -> Tensor:
        """w (n, w) of latents (n, z) and classes (n,), which an unconditional generator ignores."""
        return self.net.mapping(z, labels)

    @abstractmethod
    def middle(self, w: Tensor) -> dict[str, Tensor]:
        """Codes in the middle, by name, as w (n, w) leads to."""

    @abstractmethod
    def image(self, w: Tensor, codes: dict[str, Tensor] | None = None) -> Tensor:
        """Images (n, c, h, w) as networks see them, of w (n, w); with `codes`, of what comes after the middle."""

    @property
    @abstractmethod
    def where(self) -> str:
        """Where the middle is, in words."""

    @staticmethod
    @abstractmethod
    def _place(net: nn.Module, at: int) -> int:
        """The setting `feature`, with 0 replaced. Raises RecipeError for a place that the generator does not have."""


class FrozenStyleGAN2(Frozen):
    """`at` is the resolution of the first block after the middle; by default the last."""

    name = "StyleGAN2"

    def __init__(self, net: stylegan2.Generator, draw: dict, at: int = 0, noisy: bool = False):
        super().__init__(net, draw, at)
        self.noisy = noisy

    @property
    def like(self) -> Tensor:
        return self.net.synthesis.b4.const

    def latents(self, n: int, g: torch.Generator) -> Tensor:
        return self.net.latents(n, g)

    def middle(self, w: Tensor) -> dict[str, Tensor]:
        x, image = self.net.synthesis(w, self._noise(), stop=self.at // 2)
        return {"x": x, "image": image}

    def image(self, w: Tensor, codes: dict[str, Tensor] | None = None) -> Tensor:
        start = self.at if codes else 4
        _, image = self.net.synthesis(w, self._noise(), start, **(codes or {}))
        return stylegan2.finished(image, self.draw)

    def _noise(self) -> list[Tensor] | None:
        return self.net.constant_noise() if self.noisy else None

    @property
    def where(self) -> str:
        return f"before resolution {self.at}"

    @staticmethod
    def _place(net: stylegan2.Generator, at: int) -> int:
        if at and at not in net.size.sides[1:]:
            raise RecipeError(
                f"synthetic.feature = {at}: this generator continues at "
                f"{', '.join(map(str, net.size.sides[1:])) or 'no resolution'}"
            )
        return at or net.size.resolution


class FrozenStyleGANXL(Frozen):
    """`at` is the number of the first layer after the middle, from 1; by default half of all."""

    name = "StyleGAN-XL"

    @property
    def like(self) -> Tensor:
        return self.net.synthesis.input.weight

    def latents(self, n: int, g: torch.Generator) -> Tensor:
        return torch.randn(n, self.net.z_dim, generator=g).to(self.like)

    def middle(self, w: Tensor) -> dict[str, Tensor]:
        synthesis = self.net.synthesis
        x = synthesis.input(w)
        for layer in synthesis.layers[: self.at]:
            x = layer(x, w)
        return {"x": x}

    def image(self, w: Tensor, codes: dict[str, Tensor] | None = None) -> Tensor:
        synthesis = self.net.synthesis
        if codes is None:
            return stylegan_xl.finished(synthesis(w), self.draw)
        x = codes["x"]
        for layer in synthesis.layers[self.at :]:
            x = layer(x, w)
        return stylegan_xl.finished(x * stylegan_xl.OUTPUT_SCALE, self.draw)

    @property
    def where(self) -> str:
        return f"before layer {self.at} of {len(self.net.synthesis.layers)}"

    @staticmethod
    def _place(net: stylegan_xl.StyleGANXL, at: int) -> int:
        layers = len(net.synthesis.layers)
        if at >= layers:
            raise RecipeError(f"synthetic.feature = {at}: this generator has layers 1 to {layers - 1} to continue at")
        return at or layers // 2


def frozen_of(stored: Sampler, at: int = 0) -> Frozen:
    """The generator of a published set, with weights of its own. RecipeError if it has no place `at`, or is of a kind
    that has no codes."""
    weights = own_weights(stored)
    if stored.module == stylegan2.__name__:
        noisy = any(name.endswith("noise_const") for name in weights)
        return FrozenStyleGAN2(stylegan2.loaded(weights, stored.settings), stored.settings, at, noisy)
    if stored.module == stylegan_xl.__name__:
        return FrozenStyleGANXL(stylegan_xl.loaded(weights, stored.settings), stored.settings, at)
    raise RecipeError(f"synthetic.start: its images are drawn by {stored.module}, whose codes can't be learned")
