"""Settings of the synthetic sets: one class for each module in distill/synthetic/."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distill.recipe.experts import ExpertUse
from distill.recipe.settings import Count, Positive, Settings, by_default

Selector = Literal["herding", "kmeans-nearest", "kmeans-farthest", "forgetting", "entropy-high", "entropy-low"]
"""Ways to choose real images: distill/selectors/."""


ClassKey = str | Annotated[int, Field(strict=True)]
"""A class by name or number."""


LABEL_EXPERTS = 10
"""Experts whose answers are averaged into labels, at most."""
FORGETTING_EXPERTS = 3
"""Experts over which forgetting is counted, at most."""


class Labels(Settings):
    """Labels of the synthetic images."""

    mode: Literal["hard", "learned", "expert"] = "hard"
    """hard: one-hot; learned: learned from a one-hot start; expert: mean probabilities of trained networks, fixed."""
    init: Literal["one-hot", "expert"] = "one-hot"
    """Start of learned labels. one-hot: probabilities, learned as such; expert: the mean probabilities of trained
    networks, learned as logits (DATM)."""
    lr: Annotated[float, Field(ge=0)] = 0.0
    """Learning rate of learned labels."""

    @model_validator(mode="after")
    def _agrees(self):
        if self.init == "expert" and self.mode != "learned":
            raise ValueError(f'init = "expert" is where learned labels start, but mode = "{self.mode}": leave it out')
        return self

    @property
    def by_experts(self) -> bool:
        """Whether they are, or start as, answers of trained networks."""
        return self.mode == "expert" or self.init == "expert"


class SyntheticBase(Settings):
    """Base of the settings of every synthetic set."""

    @property
    def expert_use(self) -> ExpertUse:
        """Whether the initialisation or the labels use trained networks."""
        return "none"

    @property
    def most_experts(self) -> int:
        """Maximum number of experts that it uses, if it requires them."""
        return 1

    def absolute(self) -> Self:
        """The same settings with absolute file paths."""
        return self

    def decisive(self) -> dict[str, Any]:
        """The settings that the result depends on, as JSON values; files by digest, not by path."""
        return self.model_dump(mode="json")


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
    init: Literal["real", "noise"] | Selector = "real"
    """Initial images. real: random real images; noise: Gaussian noise with the data's mean and standard deviation; or
    real images chosen by a selector, from the features of experts in the store or, if there are none, of a network
    trained briefly for this."""
    labels: Labels = Labels()

    @property
    def expert_use(self) -> ExpertUse:
        if self.init == "forgetting" or self.labels.by_experts:
            return "required"
        return "none" if self.init in ("real", "noise") else "preferred"

    @property
    def most_experts(self) -> int:
        return max(LABEL_EXPERTS * self.labels.by_experts, FORGETTING_EXPERTS * (self.init == "forgetting"))


class PosterLabels(Settings):
    """Labels of a poster's patches (PoDDL, section 4.3)."""

    mode: Literal["fixed", "learned"] = "fixed"
    """fixed: from the classes that the patch covers; learned: from a learned grid of label vectors, averaged over the
    patch."""
    rule: Literal["majority", "softmax", "share"] = "majority"
    """Fixed labels, from the pixels of each class in the patch. majority: the class with the most pixels, ties shared
    equally; softmax: softmax of the pixel counts; share: fractions of the pixels."""
    ipc: Annotated[float, Field(ge=0)] = 0.0
    """Maximum number of cells per class in the learned grid (0: the larger of 1 and synthetic.ipc)."""
    rows: Annotated[int, Field(ge=0)] = 0
    """Rows of the learned grid (0: those of the class grid times the square root of the cells per class)."""
    columns: Annotated[int, Field(ge=0)] = 0
    """Columns of the learned grid (0: as for rows)."""
    lr: Annotated[float, Field(ge=0)] = 1e-3
    """Learning rate of the learned grid."""

    @model_validator(mode="after")
    def _fits(self):
        if bool(self.rows) != bool(self.columns):
            raise ValueError("give rows and columns, or neither")
        if self.mode == "fixed" and (self.rows or self.ipc):
            raise ValueError('rows, columns and ipc are for the learned grid: set mode = "learned"')
        if self.mode == "learned" and self.rule != "majority":
            raise ValueError(f'rule = "{self.rule}" is for fixed labels: set mode = "fixed" or leave it out')
        return self


class PatchAugment(Settings):
    """Random rotation and scaling of patches, which takes in pixels around them (PoDD, section 6)."""

    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Maximum angle in either direction, in degrees."""
    scale: Annotated[float, Field(ge=1)] = 1.0
    """Maximum factor for enlarging or shrinking; height and width are drawn independently."""


class Poster(SyntheticBase):
    """One image for all classes, trained on through overlapping patches (PoDD, Shul et al. 2024). Its budget can be
    less than one image per class."""

    own: ClassVar[frozenset[str]] = frozenset({"height", "width"})  # of all classes together
    kind: Literal["poster"] = "poster"
    ipc: Positive = 1.0
    """Budget in images per class: all posters together have at most ipc * classes times the pixels of an image."""
    height: Annotated[int, Field(ge=0)] = 0
    """Pixels (0: height and width follow from the budget and the aspect of the class grid)."""
    width: Annotated[int, Field(ge=0)] = 0
    """Pixels."""
    posters: Literal["one", "per-class"] = "one"
    """one: one poster for all classes; per-class: a poster for each class, for budgets above one image per class."""
    columns: Annotated[int, Field(ge=0)] = 0
    """Columns of the class grid (0: the grid closest to a square, 5x2 for 10 classes, 10x10 for 100)."""
    rows: Annotated[int, Field(ge=0)] = 0
    """Rows of the class grid."""
    patches_x: Annotated[int, Field(ge=0)] = 0
    """Evenly spaced patches per row (0: two per class; if posters = "per-class", with an overlap of half a patch)."""
    patches_y: Annotated[int, Field(ge=0)] = 0
    """Evenly spaced patches per column (0: as for patches_x)."""
    cyclic: bool = False
    """Patches wrap around the edges."""
    init: Literal["noise", "blend"] = "noise"
    """noise: standard Gaussian noise; blend: a real image of each class in its cell, blended into its neighbours."""
    order: Literal["given", "greedy", "optimal", "random"] | tuple[ClassKey, ...] | tuple[tuple[ClassKey, ...], ...] = (
        "given"
    )
    """Position of each class on the poster. given: the dataset's order, row by row; greedy (PoCO) or optimal: similar
    classes next to each other; random; or a list of class names or numbers, flat or one list per row."""
    embedding: str = "auto"
    """Embedding that measures the similarity of classes, for greedy and optimal: see `stillhouse order --help`. The run
    id depends on the content of `file:PATH`, not on its path."""
    labels: PosterLabels = PosterLabels()
    augment: PatchAugment = PatchAugment()

    @model_validator(mode="after")
    def _fits(self):
        for one, other in (("height", "width"), ("columns", "rows")):
            if bool(getattr(self, one)) != bool(getattr(self, other)):
                raise ValueError(f"give {one} and {other}, or neither")
        if self.posters == "per-class" and self.ipc < 1:
            raise ValueError(
                f'ipc = {self.ipc}: a poster for each class needs at least one image per class; set posters = "one"'
            )
        if self.posters == "per-class" and (self.columns or self.order != "given"):
            raise ValueError('columns, rows and order are for posters = "one"')
        if not self.by_similarity and self.embedding != "auto":
            raise ValueError(f'embedding = "{self.embedding}" is for order = "greedy" or "optimal"')
        if self.order_list == () or len({len(row) for row in self.order_rows}) > 1:
            raise ValueError("order: list every class once, as one list or as one list per row, all of equal length")
        if self.order_rows and self.rows and (self.rows, self.columns) != (len(self.order_rows), len(self.order[0])):
            raise ValueError(f"order has {len(self.order_rows)} rows, not rows = {self.rows}, columns = {self.columns}")
        return self

    @property
    def expert_use(self) -> ExpertUse:
        return "preferred" if self.by_similarity and self.embedding == "expert" else "none"

    def absolute(self) -> Self:
        if self._file is None:
            return self
        return self.model_copy(update={"embedding": f"file:{self._file.expanduser().absolute()}"})

    def decisive(self) -> dict[str, Any]:
        values = self.model_dump(mode="json")
        if self._file is not None and self._file.is_file():
            values["embedding"] = f"file:{hashlib.sha256(self._file.read_bytes()).hexdigest()}"
        return values

    @property
    def _file(self) -> Path | None:
        """The file that `embedding` names, if any."""
        kind, _, path = self.embedding.partition(":")
        return Path(path) if kind == "file" else None

    @property
    def by_similarity(self) -> bool:
        """Whether the order depends on the similarity of classes, so on an embedding."""
        return self.order in ("greedy", "optimal")

    @property
    def order_list(self) -> tuple[str | int, ...] | None:
        """An explicit order as one flat list, row by row; None if there is none."""
        if isinstance(self.order, str):
            return None
        return sum(self.order_rows, ()) if self.order_rows else self.order

    @property
    def order_rows(self) -> tuple[tuple[str | int, ...], ...]:
        """The rows of an explicit order that is listed by rows; empty otherwise."""
        by_rows = self.order and isinstance(self.order[0], tuple)
        return self.order if by_rows else ()

    @property
    def grid(self) -> tuple[int, int] | None:
        """(rows, columns) of the class grid, from rows and columns or from the rows of the order; None if not set."""
        if self.rows:
            return self.rows, self.columns
        return (len(self.order_rows), len(self.order_rows[0])) if self.order_rows else None


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


class Sizing(Settings):
    """How large a StyleGAN2 generator is (distill/nets/stylegan2.py). What is 0 follows from the budget."""

    floats: Annotated[int, Field(ge=0)] = 0
    """Maximum number of learned floats (0: those of synthetic.ipc images per class)."""
    channel_max: Annotated[int, Field(ge=0, le=4096)] = 0
    """Feature maps at any resolution, at most (0: as many as the budget allows). Given, the budget is not used."""
    channel_base: Annotated[int, Field(ge=0)] = 0
    """Feature maps at resolution r: channel_base / r, at most channel_max (0: channel_max at all resolutions)."""
    w: Annotated[int, Field(ge=0, le=2048)] = 0
    """Size of w (0: at least twice channel_max, and what is left of the budget)."""
    z: Annotated[int, Field(ge=0, le=2048)] = 0
    """Size of the latents (0: that of w)."""
    mapping: Annotated[int, Field(ge=1, le=16)] = 2
    """Layers of the mapping network; 2 is StyleGAN2-ADA's setting for CIFAR."""
    lr_multiplier: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Learning rate of the mapping network, as a factor of that of the other weights."""


class _Generates(SyntheticBase):
    """What the settings of sets have that use a generator, which may be read from a file."""

    ipc: Positive = 1.0
    """Images per class."""
    start: str = "random"
    size: Sizing = Sizing()

    @property
    def file(self) -> Path | None:
        """The file that `start` names, if any."""
        kind, _, path = self.start.partition(":")
        return Path(path) if kind == "file" and path else None

    def absolute(self) -> Self:
        if self.file is None:
            return self
        return self.model_copy(update={"start": f"file:{self.file.expanduser().absolute()}"})

    def decisive(self) -> dict[str, Any]:
        values = self.model_dump(mode="json")
        if self.file is not None:
            found = self.file / "synthetic.safetensors" if self.file.is_dir() else self.file
            if found.is_file():
                values["start"] = f"file:{hashlib.sha256(found.read_bytes()).hexdigest()}"
        return values


class Generator(_Generates):
    """The weights of a small StyleGAN2 are learned, and every batch is drawn from it anew (generative thesis,
    section 3.6). outer.lr_img is the learning rate of the weights, with Adam."""

    kind: Literal["generator"] = "generator"
    ipc: Positive = 1.0
    """Budget in images per class: the generator has at most as many floats. Need not be whole."""
    per_class: Count = 10
    """Images of each class in one pass, drawn anew each time, and in the published training set."""
    start: Annotated[str, Field(pattern=r"^(random|real|file:.+)$")] = "random"
    """Initial weights. random: as in the paper; real: fitted to real images for fit_steps steps (implicit maximum
    likelihood: each real image pulls the closest of a few drawn ones towards it); file:PATH: of a published generator,
    which also determines the size, or fitted in the same way to the images of any other published set."""
    fit_steps: Count = 1000
    """Steps of fitting, with Adam."""
    fit_lr: Positive = 0.005
    """Learning rate of fitting."""


class Latents(_Generates):
    """Codes of a frozen generator are learned (IT-GAN, Zhao & Bilen 2022; GLaD, Cazenavette et al. 2023; LatentDD in
    the generative thesis). The generator itself counts as a shared part of the budget."""

    kind: Literal["latents"] = "latents"
    ipc: Count = 1
    """Codes per class."""
    start: Annotated[str, Field(pattern=r"^(random|file:.+)$")] = "random"
    """The generator. file:PATH: a published one; random: with random weights and the size of a budget of ipc images
    per class, which is useful for tests only."""
    space: Literal["z", "w", "feature"] = "w"
    """What a code is. z: a latent; w: one w for all layers; feature: feature maps and image at half the resolution
    `feature`, and the w of the layers from there (GLaD)."""
    feature: Annotated[int, Field(ge=0)] = 0
    """Resolution of the first block after the codes, for space = "feature" (0: the last block's)."""
    init: Literal["random", "real"] = "random"
    """Initial codes. random: of random latents; real: inverted from random real images, by gradient descent on the
    distance of pixels for invert_steps steps."""
    invert_steps: Count = 200
    invert_lr: Positive = 0.05
    """Learning rate of the inversion, with Adam."""
    diversity: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the penalty that keeps images apart (IT-GAN): the mean squared distance, in the features of a random
    network, of each image from the real one that its code was inverted from. For init = "real"."""

    @model_validator(mode="after")
    def _fits(self):
        if self.diversity and self.init != "real":
            raise ValueError('diversity compares images with those that codes were inverted from: set init = "real"')
        if self.feature and self.space != "feature":
            raise ValueError('feature is for space = "feature"')
        return self


SyntheticSettings = Annotated[
    Pixels | Poster | Canvas | Wang | Factorized | Generator | Latents,
    Field(discriminator="kind"),
    by_default("pixels"),
]
