"""`load_generator`: a generator in a `.pkl` file of NVIDIA's or StyleGAN-XL's code, as a module of this project."""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from distill.data.preprocess import Preprocess
from distill.errors import DataError
from distill.generators import stylegan2 as from_stylegan2
from distill.generators import stylegan3 as from_stylegan3
from distill.generators.pickles import Part, read_pickle
from distill.nets import stylegan2, stylegan_xl
from distill.published.forms import Sampler
from distill.published.published import Published

WANTED = "G_ema"
PER_CLASS = 50
"""Images per class of a set for training, by default."""
TENSORFLOW = b"dnnlib.tflib"


class PublishedGenerator(nn.Module):
    """A frozen generator: images (n, c, resolution, resolution), in about [-1, 1], from latents (n, z_dim).

    The noise of StyleGAN2 is the constant one in its file, so that a latent always gives the same image.
    """

    def __init__(self, code: ModuleType, weights: dict[str, Tensor], settings: dict[str, Any], z_dim: int):
        super().__init__()
        self.network = code.loaded(weights, settings).requires_grad_(False).eval()
        self.code, self.settings = code, settings
        self.resolution: int = settings["image"][0]
        self.classes: int = settings["classes"]
        """0: unconditional."""
        self.z_dim = z_dim
        self.channels = settings["channels"] if code is stylegan2 else settings["layers"][-1][1][0]

    def forward(self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0) -> Tensor:
        """Images of latents z (n, z_dim) and classes `labels` (n,), which an unconditional generator ignores."""
        if self.classes and labels is None:
            raise ValueError(f"this generator has {self.classes} classes: give the labels of the images")
        if self.code is stylegan2:
            return self.network(z, labels, self.network.constant_noise(), truncation)
        return self.network(z, labels, truncation)

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """Random z (n, z_dim), drawn on the CPU."""
        return torch.randn(n, self.z_dim, generator=generator).to(next(self.network.parameters()).device)

    def sampler(self, per_class: int = PER_CLASS) -> Sampler:
        """`per_class` images of each class in [0, 1], not clamped, as a published set draws them. An unconditional
        generator has one class; StyleGAN2's noise is fresh for every image."""
        weights = {name: tensor.detach() for name, tensor in self.network.state_dict().items()}
        settings = self.settings | {"scale": [0.5] * self.channels, "shift": [0.5] * self.channels}
        return Sampler(weights, self.code.__name__, settings, max(self.classes, 1), per_class)

    def published(self, per_class: int = PER_CLASS) -> Published:
        """The generator as a set for training: classes are named by their numbers, and pixels are in [0, 1]."""
        sampler = self.sampler(per_class)
        names = tuple(str(k) for k in range(sampler.classes))
        return Published(sampler, names, Preprocess(), lr=None, recipe={}, step=0, state={})


def load_generator(
    path: str | Path,
    device: str | torch.device = "cpu",
    resolution: int | None = None,
    classes: int | None = None,
) -> PublishedGenerator:
    """The averaged generator, `G_ema`, in a pickle of StyleGAN2-ADA, StyleGAN3 or StyleGAN-XL.

    Nothing in the file is run. DataError, with the fix, if it is no such file, if it contains a class that none of them
    has, lacks `G_ema`, or makes images of another resolution or number of classes than those given here.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of a published generator")
    data = path.read_bytes()
    if data[:2] == b"PK":
        raise DataError(f"{path}: an archive of torch.save, not a pickle of NVIDIA's code; use the .pkl of its authors")
    if TENSORFLOW in data[:1000]:
        raise DataError(f"{path}: a generator of TensorFlow; convert it with legacy.py of stylegan2-ada-pytorch first")
    parts = read_pickle(data, str(path))
    generator = parts.get(WANTED)
    if not isinstance(generator, Part):
        names = ", ".join(sorted(name[:50] for name in parts)[:10]) or "nothing"
        raise DataError(f"{path}: has no {WANTED}, only {names}; use a snapshot of a whole training run")
    try:
        code, weights, settings = _converted(generator)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    _check(path, settings, resolution, classes)
    weights = {name: tensor.to(device) for name, tensor in weights.items()}
    return PublishedGenerator(code, weights, settings, settings["z" if code is stylegan2 else "z_dim"])


def _converted(generator: Part) -> tuple[ModuleType, dict[str, Tensor], dict[str, Any]]:
    """Module of distill.nets, weights, settings."""
    parts = generator.parts()
    below = parts["synthesis"].parts() if {"synthesis", "mapping"} <= parts.keys() else {}
    try:
        if "b4" in below:
            weights, settings = from_stylegan2.weights_and_settings(generator)
            if fault := stylegan2.fault(weights, settings, settings["classes"]):
                raise DataError(f"a StyleGAN2 generator that does not fit together: {fault}; fetch it again")
            return stylegan2, weights, settings
        if "input" in below:
            return stylegan_xl, *from_stylegan3.weights_and_settings(generator)
    except KeyError as error:
        raise DataError(f"its {WANTED} has no module {error}: fetch it again") from None
    raise DataError(
        f"{WANTED} is a {generator.kind[:100]!r} of another architecture; supported are StyleGAN2-ADA, StyleGAN3 and "
        "StyleGAN-XL"
    )


def _check(path: Path, settings: dict[str, Any], resolution: int | None, classes: int | None) -> None:
    made = settings["image"][0]
    if resolution not in (None, made):
        raise DataError(f"{path}: makes images of {made} px, not {resolution}; use a generator of {resolution} px")
    if classes not in (None, settings["classes"]):
        have = settings["classes"] or "no"
        raise DataError(f"{path}: has {have} classes, not {classes}; use a generator of this dataset's classes")


def load_embeddings(path: str | Path) -> Tensor:
    """Class embeddings (classes, e) in a pickle of StyleGAN-XL's: `in_embeddings/tf_efficientnet_lite0.pkl`."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of StyleGAN-XL's class embeddings")
    embed = read_pickle(path.read_bytes(), str(path)).get("embed")
    table = embed.tensors().get("weight") if isinstance(embed, Part) else None
    if table is None or table.ndim != 2:
        raise DataError(f"{path}: has no class embeddings; use in_embeddings/tf_efficientnet_lite0.pkl of StyleGAN-XL")
    return table.float()
