"""Settings of the synthetic sets: one class for each module in distill/synthetic/."""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from distill.recipe.experts import ExpertUse
from distill.recipe.generator import Generator, GeneratorXL, Latents
from distill.recipe.poster import Poster
from distill.recipe.settings import Count, Positive, by_default
from distill.recipe.synthetic_base import FORGETTING_EXPERTS, LABEL_EXPERTS, Labels, Selector, SyntheticBase

INIT = f"^(real|noise|{'|'.join(get_args(Selector))}|file:.+)$"


class Pixels(SyntheticBase):
    """n images per class, every pixel learned (Wang et al. 2018; DM; MTT)."""

    kind: Literal["pixels"] = "pixels"
    ipc: Count = 1
    """Images per class, as stored."""
    factor: Count = 1
    """Each stored image is a grid of factor x factor smaller ones, which are enlarged to training images
    (multi-formation, IDC, Kim et al. 2022): factor^2 times as many training images in the same storage."""
    bits: Literal[8, 32] = 32
    """Bits per stored value. 8: 256 levels over the range of each channel in the training images; images are rounded in
    every step and learned through the rounding, so that what is stored is what was judged."""
    init: Annotated[str, Field(pattern=INIT)] = "real"
    """Initial images. real: random real images; noise: Gaussian noise with the data's mean and standard deviation;
    herding and others: real images chosen by a selector, from the features of experts in the store or, if there are
    none, of a network trained briefly for this; file:PATH: the images of another published set, of any kind, whose
    labels are not taken over."""
    labels: Labels = Labels()

    from_file: ClassVar[str] = "init"

    @property
    def expert_use(self) -> ExpertUse:
        if self.init == "forgetting" or self.labels.by_experts:
            return "required"
        return "preferred" if self.init in get_args(Selector) else "none"

    @property
    def most_experts(self) -> int:
        return max(LABEL_EXPERTS * self.labels.by_experts, FORGETTING_EXPERTS * (self.init == "forgetting"))


class Canvas(SyntheticBase):
    """One seamless canvas per class, larger than an image; every crop of it trains (Wearable ImageNet, 2022)."""

    kind: Literal["canvas"] = "canvas"
    scale: Annotated[float, Field(ge=1)] = 2.0
    """Sides of a canvas in image sides; need not be whole."""
    height: Annotated[int, Field(ge=0)] = 0
    """Pixels (0: by scale)."""
    width: Annotated[int, Field(ge=0)] = 0
    canvases: Count = 1
    """Canvases per class."""
    crops: Count = 1
    """Crops of each canvas per pass."""
    wrap: Literal["both", "x", "y"] = "both"
    """Across which edges a canvas continues at the opposite one: both for fabric, x for a border, y for a ribbon."""
    pattern: Literal["p1", "half-drop", "mirror"] = "p1"
    """How copies of a canvas are laid out: side by side; each column half a canvas lower than the one before, as
    wallpaper is; or mirrored at every edge."""
    init: Literal["noise", "real", "blend"] = "noise"
    """Noise of the data's mean and deviation; real images side by side, which leaves seams at the start; or real images
    blended into each other, across the edges too."""
    tv: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the total variation, the mean absolute step between neighbouring pixels, as a penalty."""
    spectrum: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the distance between the canvas's and the real images' log power spectrum, as a penalty."""

    @model_validator(mode="after")
    def _fits(self):
        if bool(self.height) != bool(self.width):
            raise ValueError("give height and width, or neither")
        if self.pattern != "p1" and self.wrap != "both":
            raise ValueError(f'pattern = "{self.pattern}" continues across all edges: set wrap = "both"')
        return self


class Wang(SyntheticBase):
    """Textures without a period: per class a set of Wang tiles, whose edges match by colour (Cohen et al. 2003)."""

    kind: Literal["wang"] = "wang"
    scale: Annotated[float, Field(ge=1)] = 1.0
    """Side of a tile in image sides; tiles are square."""
    colours: Annotated[int, Field(ge=1, le=4)] = 2
    """Colours of edges, of horizontal and of vertical ones each; there is a tile for every combination, colours^4."""
    border: Annotated[float, Field(gt=0, lt=0.5)] = 0.0625
    """Half the width of the strip that tiles share along an edge, in tile sides."""
    crops: Count = 1
    """Crops of each class per pass, each from another random tiling."""
    init: Literal["noise", "blend"] = "noise"
    """Noise of the data's mean and deviation, or real images blended into each other across the tiles' edges."""
    tv: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the total variation of crops, the mean absolute step between neighbouring pixels, as a penalty."""


class Factorized(SyntheticBase):
    """Bases and small networks, hallucinators, that turn each base into several images (HaBa, Liu et al. 2022)."""

    kind: Literal["factorized"] = "factorized"
    ipc: Count = 1
    """Bases per class. Every pair of a base and a hallucinator is a training image."""
    hallucinators: Count = 5
    """Hallucinators, which all classes share; they are part of the budget."""
    channels: Annotated[int, Field(ge=0)] = 0
    """Channels of a base (0: those of images). 1 buys three bases for one."""
    height: Annotated[int, Field(ge=0)] = 0
    """Pixels of a base, which is enlarged to an image's (0: as an image)."""
    width: Annotated[int, Field(ge=0)] = 0
    """Pixels."""
    features: Annotated[int, Field(ge=0)] = 0
    """Channels inside a hallucinator (0: those of images)."""
    pairs: Annotated[int, Field(ge=0)] = 1
    """Hallucinators that each base meets in a step, drawn at random (0: all). Judged networks see all pairs."""
    init: Literal["real", "noise"] = "real"
    """Bases: random real images, or Gaussian noise with the data's mean and standard deviation."""
    start: Literal["identity", "random"] = "identity"
    """Hallucinators: nearly the identity, or PyTorch's default weights (HaBa)."""
    optimizer: Literal["sgd", "adam"] = "adam"
    """Optimiser of hallucinators. Under SGD a rate that suits bases may be far too large for them (HaBa on MTT: sgd, at
    the rate of the bases)."""
    lr_hallucinator: Positive = 0.01
    """Learning rate of hallucinators."""
    contrast: Annotated[float, Field(ge=0)] = 0.0
    """Weight of a penalty on how alike a base's images by two hallucinators are in the features of a random network
    (0: none; HaBa: 0.1)."""
    critic_lr: Annotated[float, Field(ge=0)] = 0.0
    """Learning rate of that network, by Adam, as an adversary that learns to recognise bases (0: a fresh network in
    every step)."""

    @model_validator(mode="after")
    def _fits(self):
        if self.pairs > self.hallucinators:
            raise ValueError(f"pairs = {self.pairs}: there are only hallucinators = {self.hallucinators}")
        if bool(self.height) != bool(self.width):
            raise ValueError("give height and width, or neither")
        if self.contrast and self.hallucinators < 2:
            raise ValueError("contrast compares two hallucinators: set hallucinators = 2 or more")
        if self.critic_lr and not self.contrast:
            raise ValueError("critic_lr is of the network in contrast: set contrast too")
        return self


SyntheticSettings = Annotated[
    Pixels | Poster | Canvas | Wang | Factorized | Generator | GeneratorXL | Latents,
    Field(discriminator="kind"),
    by_default("pixels"),
]
