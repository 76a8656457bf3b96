"""Settings of learned generators, and of codes of a frozen one (distill/synthetic/generator.py, latents.py)."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distill.recipe.adversarial import Adversarial
from distill.recipe.outer import Outer
from distill.recipe.settings import Count, Positive, Settings
from distill.recipe.synthetic_base import SyntheticBase

if TYPE_CHECKING:
    from distill.recipe.whole import Recipe


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

    from_file: ClassVar[str] = "start"


class Gan(Settings):
    """The GAN whose weights a generator starts from: a run of its own, named by its settings and its data, so that it
    is trained once, resumed if it was stopped, and found again by every recipe that starts from the same GAN."""

    objective: Adversarial = Adversarial()
    outer: Outer = Outer(**Adversarial.outer_defaults({}), steps=600, evaluate_every=200, picture_every=200)
    per_class: Annotated[int, Field(ge=0)] = 0
    """Images of each class in one pass of the GAN (0: as many as in those of the generator that starts from it; 10 for
    codes)."""

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, block: Any) -> Any:
        """What a table `outer` leaves out is as above, not as in other runs."""
        usual = cls.model_fields["outer"].default
        if not isinstance(block, dict) or not isinstance(block.get("outer"), dict):
            return block
        return {**block, "outer": {**usual.model_dump(), **block["outer"]}}

    @model_validator(mode="after")
    def _fits(self):
        self.outer.check_segments(self.objective.segments)
        return self

    def of(self, recipe: "Recipe", synthetic: SyntheticBase) -> "Recipe":
        """The recipe that trains `synthetic` in this way, and differs in nothing else from `recipe`."""
        changes = {"name": "gan", "paper": "", "expected": "", "objective": self.objective, "outer": self.outer}
        if self.per_class:
            synthetic = synthetic.model_copy(update={"per_class": self.per_class})
        return recipe.model_copy(update={**changes, "synthetic": synthetic})

    def decisive(self) -> dict[str, Any]:
        """The settings that the weights depend on."""
        outer = self.outer.model_dump(mode="json", exclude={"workers"})
        draws = {"per_class": self.per_class} if self.per_class else {}  # 0 is part of the set's own settings
        return {"objective": self.objective.decisive(), "outer": outer} | draws


class _FromGan(_Generates):
    """What the settings of sets have whose generator may be a GAN that is trained first."""

    gan: Gan = Gan()

    def after(self, steps: int) -> Self:
        outer = self.gan.outer.model_copy(update={"steps": steps})
        return self.model_copy(update={"gan": self.gan.model_copy(update={"outer": outer})})

    def absolute(self) -> Self:
        gan = self.gan.model_copy(update={"objective": self.gan.objective.absolute()})
        return super().absolute().model_copy(update={"gan": gan})

    def decisive(self) -> dict[str, Any]:
        values = super().decisive()
        if self.start in ("gan", "grown"):
            return values | {"gan": self.gan.decisive()}
        del values["gan"]
        return values


class _Learned(_FromGan):
    """What the settings of generators have whose weights are learned."""

    ipc: Positive = 1.0
    """Budget in images per class: the generator has at most as many floats. Need not be whole."""
    per_class: Count = 10
    """Images of each class in one pass, drawn anew each time, and in the published training set."""


class Generator(_Learned):
    """The weights of a small StyleGAN2 are learned, and every batch is drawn from it anew (generative thesis,
    section 3.6). outer.lr_img is the learning rate of the weights, with Adam."""

    kind: Literal["generator"] = "generator"
    size: Sizing = Sizing()
    start: Annotated[str, Field(pattern=r"^(random|real|gan|file:.+)$")] = "random"
    """Initial weights. random: as in the paper; real: fitted to real images for fit_steps steps (implicit maximum
    likelihood: each real image pulls the closest of a few drawn ones towards it); gan: of the GAN `gan`, which is
    trained first; file:PATH: of a published generator, Stillhouse's or a .pkl of StyleGAN2-ADA, which also determines
    the size, or fitted in the same way to the images of any other published set."""
    fit_steps: Count = 1000
    """Steps of fitting, with Adam."""
    fit_lr: Positive = 0.005
    """Learning rate of fitting."""

    def before(self, recipe: "Recipe") -> "Recipe | None":
        if self.start != "gan":
            return None
        return self.gan.of(recipe, self.model_copy(update={"start": "random", "gan": Gan()}))


class SizingXL(Settings):
    """How large a StyleGAN-XL generator is (distill/nets/stylegan_xl.py). What is 0 follows from the budget."""

    floats: Annotated[int, Field(ge=0)] = 0
    """Maximum number of stored floats (0: those of synthetic.ipc images per class)."""
    channel_max: Annotated[int, Field(ge=0, le=4096)] = 0
    """Feature maps of every layer (0: as many as the budget allows). Given, the budget is not used."""
    w: Annotated[int, Field(ge=0, le=2048)] = 0
    """Size of w (0: at least twice channel_max, at most 512, and what is left of the budget)."""
    z: Annotated[int, Field(ge=0, le=2048)] = 0
    """Size of the latents (0: that of w; StyleGAN-XL: 64)."""
    mapping: Annotated[int, Field(ge=1, le=16)] = 2
    """Layers of the mapping network."""
    embedding: Annotated[int, Field(ge=0, le=2048)] = 0
    """Size of the class embeddings, which are random and not learned; their projection is (0: that of w)."""


class GeneratorXL(_Learned):
    """The weights of a StyleGAN-XL are learned: layers without aliasing, stages of growing resolution (Sauer et al.
    2022). outer.lr_img is the learning rate of the weights, with Adam."""

    kind: Literal["generator_xl"] = "generator_xl"
    start: Annotated[str, Field(pattern=r"^(random|gan|grown|file:.+)$")] = "random"
    """Initial weights. random: as in the paper; grown: of a GAN of half the resolution, which is trained first, by the
    settings `gan`, and whose layers are kept and frozen but for the last ones; gan: of a GAN of this resolution, which
    is trained first and grows if `stem` is set; file:PATH: of a published one, Stillhouse's or a .pkl of StyleGAN3 or
    StyleGAN-XL, which also determines the size."""
    stem: Annotated[int, Field(ge=0)] = 0
    """Side in pixels of the first stage of a GAN that grows (StyleGAN-XL: 16): dataset.size must be 2, 4, 8, ... times
    as large, and size.channel_max must be given. 0: GANs are trained at their resolution alone."""
    stem_layers: Annotated[int, Field(ge=3)] = 10
    """Layers of the first stage, or of a generator without stages, before the one to colours."""
    stage_layers: Annotated[int, Field(ge=3)] = 7
    """Layers that each later stage adds; it drops the last two and the one to colours of the stage before."""
    size: SizingXL = SizingXL()

    def check(self, recipe: "Recipe") -> None:
        if self.start != "grown" and not (self.stem and self.start == "gan"):
            return
        times = recipe.dataset.size / self.stem if self.stem else 0
        if self.stem < 8 or self.stem & (self.stem - 1) or times not in (2, 4, 8, 16, 32, 64, 128):
            raise ValueError(
                f"synthetic.stem = {self.stem}, dataset.size = {recipe.dataset.size}: for stages, set stem to 8, 16, "
                "32, ... and dataset.size to 2, 4, 8, ... times as many pixels"
            )
        if not self.size.channel_max:
            raise ValueError("synthetic.stem: all stages have as many maps: set synthetic.size.channel_max")

    def before(self, recipe: "Recipe") -> "Recipe | None":
        side = {"gan": recipe.dataset.size, "grown": recipe.dataset.size // 2}.get(self.start)
        if side is None:
            return None
        start = "grown" if self.stem and side > self.stem else "random"
        dataset = recipe.dataset.model_copy(update={"size": side})
        smaller = recipe.model_copy(update={"dataset": dataset})
        return self.gan.of(smaller, self.model_copy(update={"start": start}))


class Latents(_FromGan):
    """Codes of a frozen generator are learned (IT-GAN, Zhao & Bilen 2022; GLaD, Cazenavette et al. 2023; LatentDD in
    the generative thesis). The generator itself counts as a shared part of the budget."""

    kind: Literal["latents"] = "latents"
    ipc: Count = 1
    """Codes per class."""
    size: Sizing = Sizing()
    start: Annotated[str, Field(pattern=r"^(random|gan|file:.+)$")] = "random"
    """The generator. file:PATH: a published one, Stillhouse's or a .pkl of StyleGAN2-ADA, StyleGAN3 or StyleGAN-XL;
    gan: the GAN `gan`, which is trained first, of the size of a budget of ipc images per class or of `size`; random:
    random weights of that size, which is useful for tests only."""
    space: Literal["z", "w", "feature"] = "w"
    """What a code is. z: a latent; w: one w for all layers; feature: what a block or layer in the middle, `feature`,
    is given, and the w of the layers from there (GLaD)."""
    feature: Annotated[int, Field(ge=0)] = 0
    """Where the codes of space = "feature" enter. Of StyleGAN2: the resolution of the first block after them (0: the
    last block's); of StyleGAN3 and StyleGAN-XL: the number of the first layer after them, from 1 (0: half of all)."""
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

    def before(self, recipe: "Recipe") -> "Recipe | None":
        if self.start != "gan":
            return None
        return self.gan.of(recipe, Generator(ipc=self.ipc, size=self.size))
