"""What a run is, written down: the recipe.

A recipe is a TOML file plus dotted overrides (`objective.syn_steps=20`). It is parsed, checked and printed here
without importing torch, so that `--help` is instant. Unknown keys and values out of range are refused, all at once.

The unions that end their sections (`Dataset`, `Network`, `SyntheticSettings`, `ObjectiveSettings`) are the registries:
`kind = "pixels"` means the module `distill/synthetic/pixels.py`.
"""

import hashlib
import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from distill.errors import RecipeError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Base of every block of a recipe: frozen, unknown keys refused, field docstrings are the help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


# ---------------------------------------------------------------- datasets: distill/data/<kind>.py


class DatasetSettings(Settings):
    preprocess: Literal["standardize", "zca", "none"] = "standardize"
    """What networks see: per-channel mean 0 and deviation 1, ZCA-whitened (kind a, eps 0.1), or [0, 1] as it is."""
    validation: Fraction = 0.1
    """Part of the training images held out for selection; never trained on."""
    limit: Annotated[int, Field(ge=0)] = 0
    """Use only the first so many training images (0: all)."""
    limit_test: Annotated[int, Field(ge=0)] = 0
    """Use only the first so many test images (0: all)."""


class Digits(DatasetSettings):
    """scikit-learn's 1,797 digits, 8x8 grey: needs no download. 360 of them, fixed, are the test part."""

    kind: Literal["digits"] = "digits"


class Parquet(DatasetSettings):
    """Hugging Face image Parquet: encoded image bytes, ClassLabel names in the schema metadata."""

    kind: Literal["parquet"] = "parquet"
    path: str
    """Folder with `train*.parquet` and `test*.parquet`. A relative path is looked up in $STILLHOUSE_DATA, else here."""
    image: str = "image"
    """Column of the images: a struct with `bytes`, or plain binary."""
    label: str = "label"
    """Column of the integer labels."""


Dataset = Annotated[Digits | Parquet, Field(discriminator="kind")]


# ---------------------------------------------------------------- networks: distill/nets/<kind>.py


class ConvNet(Settings):
    """[3x3 conv, norm, ReLU, 2x2 average pool] x depth, linear (Gidaris & Komodakis 2018, as DC, DM, MTT use it)."""

    kind: Literal["convnet"] = "convnet"
    depth: Annotated[int, Field(ge=1, le=8)] = 3
    width: Count = 128
    norm: Literal["instance", "batch", "group", "layer", "none"] = "instance"


Network = ConvNet  # a second network makes this Annotated[ConvNet | ..., Field(discriminator="kind")]


# ---------------------------------------------------------------- augmentation and experts


class Augment(Settings):
    """Differentiable augmentation (DSA, Zhao & Bilen 2021). One of the strategies is drawn for each batch."""

    strategies: tuple[Literal["color", "crop", "cutout", "flip", "scale", "rotate"], ...] = ()
    """Empty: none. The papers' full set is color, crop, cutout, flip, scale, rotate."""
    per_sample: bool = True
    """Each image has its own parameters; false: one draw for the whole batch (siamese)."""
    brightness: Annotated[float, Field(ge=0)] = 1.0
    saturation: Annotated[float, Field(ge=0)] = 2.0
    contrast: Annotated[float, Field(ge=0)] = 0.5
    crop_pad: Annotated[float, Field(ge=0, lt=1)] = 0.125
    cutout_size: Annotated[float, Field(gt=0, lt=1)] = 0.5
    flip_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    scale_ratio: Annotated[float, Field(ge=1)] = 1.2
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 15.0
    align_corners: bool = True
    """How scale and rotate sample the grid: true in the MTT family, false in DC, DSA and DM."""


DSA = ("color", "crop", "cutout", "flip", "scale", "rotate")


class Experts(Settings):
    """Networks trained on the real data, every epoch's parameters kept."""

    count: Count = 100
    epochs: Count = 50
    lr: Positive = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch: Count = 256
    augment: Augment = Augment(strategies=DSA)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """How snapshots are stored."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Expert i depends only on the recipe, this seed and i."""
    workers: Count = 1
    """Ray Train workers that train experts side by side."""


# ---------------------------------------------------------------- synthetic sets: distill/synthetic/<kind>.py


class Labels(Settings):
    """Labels of the synthetic images."""

    mode: Literal["hard", "learned", "expert"] = "hard"
    """hard: the class; learned: starts one-hot and is learned; expert: a trained network's probabilities, fixed."""
    lr: Annotated[float, Field(ge=0)] = 0.0
    """Step size of learned labels."""


class Pixels(Settings):
    """n images per class, each pixel learned (Wang et al. 2018; DM; MTT)."""

    kind: Literal["pixels"] = "pixels"
    ipc: Count = 1
    """Images per class."""
    init: Literal["real", "noise"] = "real"
    labels: Labels = Labels()


SyntheticSettings = Pixels  # a second one makes this Annotated[Pixels | ..., Field(discriminator="kind")]


# ---------------------------------------------------------------- objectives: distill/objectives/<kind>.py


class Engine(Settings):
    """How inner training is differentiated (distill/unroll.py)."""

    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of the forward and the adjoint step; auto: on when the run is long enough to pay."""
    keep: Literal["auto", "device", "host", "thin"] = "auto"
    """Where the states of the inner steps wait for the way back; thin: every sqrt(N)-th, the rest recomputed."""
    bf16: bool = False
    """bfloat16 autocast of the student."""
    vectorize: Literal["auto", "on", "off"] = "auto"
    """Several segments as one batched computation, or one after another."""


class Trajectory(Settings):
    """Match a segment of an expert's training trajectory (MTT, Cazenavette et al. 2022, algorithm 1)."""

    kind: Literal["trajectory"] = "trajectory"
    syn_steps: Count = 50
    """N: steps of the student on the synthetic set."""
    expert_epochs: Count = 2
    """M: epochs of the expert from the segment's start to its target."""
    max_start_epoch: Count = 2
    """T+: the start epoch is drawn uniformly below it."""
    batch_syn: Annotated[int, Field(ge=0)] = 0
    """Synthetic images per student step (0: all). Batches cover the set before it is reshuffled."""
    lr_teacher: Positive = 0.01
    """The student's learning rate at the start."""
    lr_lr: Annotated[float, Field(ge=0)] = 1e-7
    """Step size of the student's learning rate (0: it is not learned)."""
    distance: Literal["l2", "l1"] = "l2"
    """Squared L2 (MTT) or L1 (thesis), normalised by the distance of the segment's two ends."""
    prune: Annotated[float, Field(ge=0)] = 0.0
    """Parameters whose student ends farther than this from the expert are left out (0: none are)."""
    min_start_epoch: Annotated[int, Field(ge=0)] = 0
    """Earliest start epoch."""
    widen_from: Annotated[int, Field(ge=0)] = 0
    """Upper end of the start epochs at the first step, growing to max_start_epoch (0: no schedule)."""
    widen_steps: Annotated[int, Field(ge=0)] = 0
    """Outer steps over which it grows."""
    trajectories: Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9_-]{0,62})?$")] = ""
    """Name of a set of experts in the store; empty: the set of this recipe."""
    segments: Count = 1
    """Starting points averaged per outer step, over all workers."""
    augment: Augment = Augment(strategies=DSA)
    engine: Engine = Engine()


class Distribution(Settings):
    """Mean embeddings of real and synthetic agree in random networks (DM, Zhao & Bilen 2023)."""

    kind: Literal["distribution"] = "distribution"
    batch_real: Count = 256
    """Real images per class per step."""
    augment: Augment = Augment(strategies=DSA, per_sample=False, align_corners=False)
    """Real and synthetic share each draw (siamese)."""


class Unrolled(Settings):
    """A network trained on the synthetic set has low loss on real images (BPTT; RaT-BPTT, Feng et al. 2024)."""

    kind: Literal["unrolled"] = "unrolled"
    unroll: Count = 200
    """T: longest inner training, in steps."""
    window: Count = 60
    """W: last steps differentiated. window = unroll is plain BPTT."""
    random: bool = True
    """Steps before the window are drawn from 0 .. T-W (RaT-BPTT); false: always T-W (truncated BPTT)."""
    redraw_every: Count = 1
    """Outer steps that share one draw of the start."""
    inner: Literal["adam", "sgd"] = "adam"
    lr_inner: Positive = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Momentum of an SGD inner step."""
    batch_syn: Annotated[int, Field(ge=0)] = 0
    """Synthetic images per inner step (0: all)."""
    batch_real: Count = 5000
    clip: Annotated[float, Field(ge=0)] = 2.0
    """The gradient is clipped at this multiple of the running mean of its norm (0: never)."""
    clip_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9
    pool: Annotated[int, Field(ge=0)] = 0
    """Networks kept between outer steps and trained on (FRePO); 0: a fresh one each time, as RaT-BPTT does."""
    segments: Count = 1
    """Networks averaged per outer step, over all workers."""
    augment: Augment = Augment(strategies=("flip", "rotate"))
    engine: Engine = Engine()


ObjectiveSettings = Annotated[Trajectory | Distribution | Unrolled, Field(discriminator="kind")]


# ---------------------------------------------------------------- the outer loop and the judgement


class Outer(Settings):
    """The outer loop: steps on the synthetic set."""

    steps: Count = 5000
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr_img: Positive = 100.0
    """Step size of what is learned (images, canvases, codes, weights)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    evaluate_every: Count = 500
    """Steps between evaluations on the held-out part, which choose the set that is published."""
    checkpoint_every: Count = 100
    picture_every: Count = 500
    """Steps between pictures sent to the tracker."""
    workers: Count = 1
    """Ray Train workers that share the segments of each step."""


class Evaluation(Settings):
    """Fresh networks trained on the synthetic set, judged on images never trained on."""

    protocol: Literal["mtt"] = "mtt"
    """mtt: SGD at the learned rate, momentum 0.9, weight decay 5e-4, batch 256, rate x0.1 at half of the epochs."""
    networks: Count = 5
    epochs: Count = 1000
    augment: Augment = Augment(strategies=DSA)
    selection: Literal["validation", "best-on-test"] = "validation"
    """Which part chooses the published step. best-on-test is the published way and flatters the figure."""
    selection_networks: Count = 2
    """Fresh networks per evaluation while distilling."""
    lr: Positive = 0.01
    """Learning rate for sets that carry none, such as the baselines."""


class Recipe(Settings):
    """Everything a run depends on."""

    name: Name
    paper: str = ""
    """Where the settings come from."""
    expected: str = ""
    """The figure to expect."""
    seed: Annotated[int, Field(ge=0)] = 0
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads per worker (0: all cores shared evenly). Bits on CPU depend on it."""
    dataset: Dataset
    network: Network = ConvNet()
    experts: Experts = Experts()
    synthetic: SyntheticSettings = Pixels()
    objective: ObjectiveSettings = Trajectory()
    outer: Outer = Outer()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _settings_agree(self):
        o = self.objective
        if o.kind == "trajectory" and o.max_start_epoch + o.expert_epochs > self.experts.epochs:
            raise ValueError(
                f"objective.max_start_epoch + objective.expert_epochs = {o.max_start_epoch + o.expert_epochs} "
                f"is beyond experts.epochs = {self.experts.epochs}: lower them or save more epochs"
            )
        if o.kind == "trajectory" and o.min_start_epoch >= (o.widen_from or o.max_start_epoch):
            raise ValueError("objective.min_start_epoch must be below the upper end of the start epochs")
        if o.kind == "trajectory" and o.widen_from > o.max_start_epoch:
            raise ValueError("objective.widen_from must not be above objective.max_start_epoch")
        if o.kind == "unrolled" and o.window > o.unroll:
            raise ValueError(f"objective.window = {o.window} is longer than objective.unroll = {o.unroll}")
        if o.kind == "unrolled" and o.pool and self.outer.workers > 1:
            raise ValueError("objective.pool needs outer.workers = 1: the pool is not shared between workers")
        if getattr(o, "segments", 1) % self.outer.workers:
            raise ValueError(f"objective.segments must be a multiple of outer.workers = {self.outer.workers}")
        return self

    def run_id(self, dataset: str) -> str:
        """Name of the run: the recipe's name and a digest of all that its result depends on.

        `dataset` is the fingerprint of the data, which stands for where the data lie. Workers, device and the number of
        judging networks do not make another run.
        """
        left_out = {"name", "paper", "expected", "device", "dataset"}
        blocks = self.model_dump(mode="json", exclude=left_out)
        for block, key in (("experts", "workers"), ("outer", "workers"), ("evaluation", "networks")):
            del blocks[block][key]
        return f"{self.name[:46]}-{digest({**blocks, 'data': dataset})}"

    def experts_id(self, dataset: str) -> str:
        """Digest of all that expert i depends on; a set of experts is named by it."""
        experts = self.experts.model_dump(mode="json", exclude={"count", "workers"})
        return digest({"experts": experts, "network": self.network.model_dump(mode="json"), "data": dataset})


def digest(value: Any) -> str:
    """16 hex digits of the SHA-256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


# ---------------------------------------------------------------- reading


def shipped() -> list[str]:
    """Names of the recipes inside the package, sorted."""
    names = (entry.name for entry in resources.files("distill.recipes").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load(source: str, overrides: list[str] = ()) -> Recipe:
    """Read a shipped recipe by name, or a TOML file, apply `dotted.path=value` overrides and check everything.

    Raises RecipeError listing every fault at once, each with its dotted path.
    """
    table = _read(source)
    return override(table, overrides, source)


def parse(table: dict, source: str) -> Recipe:
    """A Recipe from a nested dict; `source` is named in errors."""
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        lines = [f"  {_path(e['loc'])}: {_say(e)}" for e in error.errors()]
        raise RecipeError(f"recipe {source}:\n" + "\n".join(lines)) from None


def override(table: dict, overrides: list[str], source: str) -> Recipe:
    """A recipe from the resolved values that were stored with a result, with overrides."""
    table = json.loads(json.dumps(table))
    for text in overrides:
        _override(table, text)
    return parse(table, source)


def _read(source: str) -> dict:
    if source in shipped():
        text = (resources.files("distill.recipes") / f"{source}.toml").read_text(encoding="utf8")
    elif Path(source).is_file():
        text = Path(source).read_text(encoding="utf8")
    else:
        raise RecipeError(f"no recipe {source!r}: neither a file nor one of {', '.join(shipped())}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {source}: not TOML: {error}") from None


def _override(table: dict, assignment: str) -> None:
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise RecipeError(f"override {assignment!r}: write it as dotted.path=value")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    *blocks, key = path.replace("-", "_").split(".")
    for block in blocks:
        table = table.setdefault(block, {})
        if not isinstance(table, dict):
            raise RecipeError(f"override {assignment!r}: {block} is a value, not a table")
    table[key] = value


def _path(location: tuple) -> str:
    """Dotted path without the tag that a discriminated union adds behind its block."""
    unions = (Dataset, Network, SyntheticSettings, ObjectiveSettings)
    kinds = {member.model_fields["kind"].default for union in unions for member in members(union)}
    return ".".join(str(p) for i, p in enumerate(location) if not (i == 1 and p in kinds)) or "recipe"


def members(union: Any) -> tuple[type[Settings], ...]:
    """The settings classes of a registry: of a discriminated union, or of one class alone."""
    return (union,) if isinstance(union, type) else get_args(get_args(union)[0])


def _say(error: dict) -> str:
    if error["type"] == "union_tag_not_found":
        return 'add its kind, e.g. kind = "..." (`stillhouse recipes --fields` lists them)'
    if error["type"] == "extra_forbidden":
        return "unknown key; remove it or correct its spelling"
    message = error["msg"].removeprefix("Value error, ")
    return message if isinstance(error["input"], dict) else f"{message} (got {error['input']!r})"
