"""Settings of the objectives: one class for each module in distill/objectives/."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from distill.recipe.adversarial import Adversarial
from distill.recipe.experts import DSA, Augment, ExpertUse
from distill.recipe.objective_base import Compute, InnerTraining, ObjectiveBase
from distill.recipe.settings import Count, Positive, by_default

if TYPE_CHECKING:
    from distill.recipe.whole import Recipe


class Trajectory(InnerTraining):
    """Match a segment of an expert's training trajectory (MTT, Cazenavette et al. 2022, algorithm 1)."""

    expert_use: ClassVar[ExpertUse] = "required"
    kind: Literal["trajectory"] = "trajectory"
    syn_steps: Count = 50
    """N: steps of the student on the synthetic set."""
    expert_epochs: Count = 2
    """M: epochs of the expert from the segment's start to its target."""
    max_start_epoch: Count = 2
    """T+: start epochs are drawn uniformly from the saved epochs (experts.save_every) below this one."""
    batch_syn: Annotated[int, Field(ge=0)] = 0
    """Synthetic images per student step (0: all). Batches cover the set before it is reshuffled."""
    lr_teacher: Positive = 0.01
    """Initial learning rate of the student."""
    lr_lr: Annotated[float, Field(ge=0)] = 1e-7
    """Step size for the student's learning rate (0: not learned)."""
    distance: Literal["l2", "l1"] = "l2"
    """Squared L2 (MTT) or L1 (thesis), normalised by the distance from the segment's start to its target."""
    prune: Annotated[float, Field(ge=0)] = 0.0
    """Leave out parameters that differ by more than this between student and expert at the end (0: none)."""
    min_start_epoch: Annotated[int, Field(ge=0)] = 0
    """Earliest start epoch."""
    widen_from: Annotated[int, Field(ge=0)] = 0
    """Upper limit of the start epochs at the first outer step; it grows to max_start_epoch (0: no schedule)."""
    widen_steps: Annotated[int, Field(ge=0)] = 0
    """Outer steps until the limit reaches max_start_epoch."""
    trajectories: Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9_-]{0,62})?$")] = ""
    """Name of a set of experts in the store, whose first experts.count experts are used; empty: this recipe's set."""
    segments: Count = 1
    """Trajectory segments averaged per outer step, over all workers."""
    augment: Augment = Augment(strategies=DSA)

    @property
    def method(self) -> str:
        return "datm" if self.widen_from else "mtt"

    @property
    def expert_set(self) -> str:
        return self.trajectories

    @property
    def last_expert_epoch(self) -> int:
        return self.max_start_epoch + self.expert_epochs

    def start_epochs(self, saved: list[int], below: int | None = None) -> list[int]:
        """The saved epochs at which a segment may start, below `below` (default: max_start_epoch)."""
        return [e for e in saved if self.min_start_epoch <= e < (below or self.max_start_epoch)]

    def check(self, recipe: "Recipe") -> None:
        experts, last = recipe.experts, self.last_expert_epoch
        if last > experts.epochs:
            raise ValueError(
                f"objective.max_start_epoch + objective.expert_epochs = {last} is beyond experts.epochs = "
                f"{experts.epochs}: lower them or save more epochs"
            )
        if self.min_start_epoch >= (self.widen_from or self.max_start_epoch):
            raise ValueError(
                "objective.min_start_epoch must be below objective.max_start_epoch, and below objective.widen_from if "
                "that is set"
            )
        if self.widen_from > self.max_start_epoch:
            raise ValueError("objective.widen_from must not be above objective.max_start_epoch")
        if self.trajectories:  # which epochs a named set has is known only once the store is read
            return
        saved = experts.saved_epochs
        without_target = [e for e in self.start_epochs(saved) if e + self.expert_epochs not in saved]
        if without_target or not self.start_epochs(saved, self.widen_from):
            raise ValueError(
                f"experts.save_every = {experts.save_every} does not save all epochs that the objective needs "
                f"(start epochs from {self.min_start_epoch} to below {self.max_start_epoch}, and the epochs "
                f"objective.expert_epochs = {self.expert_epochs} later): make objective.expert_epochs a multiple of "
                "experts.save_every, objective.min_start_epoch too, or set experts.save_every = 1"
            )


class WithoutUnroll(ObjectiveBase):
    """What the settings of objectives have that differentiate networks, but no training of them."""

    engine: Compute = Compute()

    @property
    def engine_settings(self) -> Compute:
        return self.engine


class Distribution(WithoutUnroll):
    """Match the embeddings of real and synthetic images of a class (DM, Zhao & Bilen 2023; NCFM, Wang et al. 2025)."""

    kind: Literal["distribution"] = "distribution"
    batch_real: Count = 64
    """Real images per class per step; all of a class that has fewer. DM takes 256."""
    distance: Literal["l2", "l1", "cosine", "ncfm"] = "l2"
    """Between the embeddings of a class. Of their means: squared L2 (DM), L1 (generative thesis) or 1 - cosine; ncfm:
    between their characteristic functions at random frequencies (NCFM)."""
    frequencies: Count = 1024
    """Frequencies drawn in each step, for distance = "ncfm"."""
    amplitude: Annotated[float, Field(ge=0, le=1)] = 0.5
    """alpha: weight of the difference in amplitude, for distance = "ncfm"; that in phase has weight 1 - alpha."""
    features: Literal["random", "experts"] = "random"
    """Networks that embed: with fresh random parameters in each step, or experts at random saved epochs."""
    min_epoch: Annotated[int, Field(ge=0)] = 0
    """Earliest epoch of the experts, for features = "experts"."""
    max_epoch: Annotated[int, Field(ge=0)] = 0
    """Latest epoch of the experts (0: their last)."""
    trajectories: Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9_-]{0,62})?$")] = ""
    """Name of a set of experts in the store, whose first experts.count experts are used; empty: this recipe's set."""
    layers: tuple[Count, ...] = ()
    """Blocks of the network, counted from 1, whose outputs are matched, their distances added; empty: the input of the
    last layer. Blocks are those of a ConvNet, residual blocks, stages of a VGG, convolutions, transformer blocks."""
    augment: Augment = Augment(strategies=DSA, per_sample=False, align_corners=False)
    """Real and synthetic images of a class get the same augmentation (siamese)."""
    segments: Count = 1
    """Networks averaged per outer step, over all workers."""

    @property
    def method(self) -> str:
        return "ncfm" if self.distance == "ncfm" else "dm"

    @classmethod
    def outer_defaults(cls, outer: dict[str, Any]) -> dict[str, Any]:
        """1000 steps of Adam, which moves pixels by about lr_img per step: gradients differ by orders of magnitude
        between distances, layers and networks. With outer.optimizer = "sgd" DM's rate, 1."""
        rates = {"adam": {"optimizer": "adam", "lr_img": 0.05}, "sgd": {"lr_img": 1.0}}
        chosen = rates.get(outer.get("optimizer", "sgd" if "lr_img" in outer else "adam"), {})
        return {"steps": 1000, "evaluate_every": 250, "picture_every": 250, **chosen}

    @property
    def expert_use(self) -> ExpertUse:
        """Whether it reads experts."""
        return "required" if self.features == "experts" else "none"

    @property
    def expert_set(self) -> str:
        return self.trajectories if self.features == "experts" else ""

    @property
    def last_expert_epoch(self) -> int:
        return self.max_epoch if self.features == "experts" else 0

    def memory_levers(self, images: int) -> list[str]:
        return ["objective.engine.bf16=true"]

    def epochs(self, saved: list[int]) -> list[int]:
        """The saved epochs of experts that embed."""
        return [e for e in saved if self.min_epoch <= e <= (self.max_epoch or e)]

    def check(self, recipe: "Recipe") -> None:
        if self.engine.compile == "on" and getattr(recipe.network, "norm", "") == "batch":
            raise ValueError(
                'objective.engine.compile = "on" does not work with network.norm = "batch", whose batches change in '
                'size: leave it at "auto"'
            )
        if self.features == "experts" and not self.trajectories and not self.epochs(recipe.experts.saved_epochs):
            raise ValueError(
                f"experts.epochs = {recipe.experts.epochs} and experts.save_every = {recipe.experts.save_every} save "
                f"no epoch from objective.min_epoch = {self.min_epoch} to objective.max_epoch = {self.max_epoch}: "
                "widen that range or save more epochs"
            )


LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
"""Outer and inner loop of gradient matching by images per class, as the authors of DC and DSA publish them."""


class Gradient(WithoutUnroll):
    """Match the gradients of real and synthetic images in networks that train on the set (DC, Zhao et al. 2021)."""

    kind: Literal["gradient"] = "gradient"
    batch_real: Count = 256
    """Real images per class per step."""
    distance: Literal["cosine", "l2"] = "cosine"
    """Between gradients. cosine: 1 - cosine of each output channel or unit, summed over all of them (DC, equation 10);
    l2: squared L2 of the whole gradient."""
    outer_loop: Annotated[int, Field(ge=0)] = 0
    """Outer steps that use a network before a fresh one replaces it (0: by images per class, as published)."""
    inner_loop: Annotated[int, Field(ge=0)] = 0
    """Passes over the updated set that the network trains between two of these steps (0: by images per class)."""
    lr_net: Positive = 0.01
    """Learning rate of the network, trained by plain SGD."""
    batch_train: Count = 256
    """Synthetic images per step of the network."""
    segments: Count = 1
    """Networks averaged per outer step, over all workers."""
    augment: Augment = Augment(strategies=DSA, per_sample=False, align_corners=False)
    """DSA: real and synthetic images of a class always share one draw, whatever per_sample says; while the network
    trains, each image has its own. `augment.strategies = []` is DC."""

    @property
    def method(self) -> str:
        return "dsa" if self.augment.strategies else "dc"

    @classmethod
    def outer_defaults(cls, outer: dict[str, Any]) -> dict[str, Any]:
        """The rate of DC and DSA, 0.1 under SGD; under Adam, which moves pixels by about lr_img per step, 0.05."""
        return {"lr_img": 0.05 if outer.get("optimizer") == "adam" else 0.1}

    def loops(self, per_class: float) -> tuple[int, int]:
        """(outer_loop, inner_loop) for `per_class` images per class, interpolated between the published ones."""
        known = sorted(LOOPS)
        at = min(max(per_class, known[0]), known[-1])
        low = max(k for k in known if k <= at)
        high = min(k for k in known if k >= at)
        part = (at - low) / (high - low) if high > low else 0.0
        outer, inner = (round(a + part * (b - a)) for a, b in zip(LOOPS[low], LOOPS[high], strict=True))
        return self.outer_loop or outer, self.inner_loop or inner

    def memory_levers(self, images: int) -> list[str]:
        return [
            f"objective.batch_real={max(1, self.batch_real // 2)}",
            f"objective.batch_train={max(1, min(images or self.batch_train, self.batch_train) // 2)}",
            "objective.engine.bf16=true",
        ]


class Unrolled(InnerTraining):
    """Minimise the loss on real images of a network trained on the synthetic set (RaT-BPTT, Feng et al. 2024)."""

    own: ClassVar[frozenset[str]] = frozenset({"batch_real"})  # in all; elsewhere it is per class
    kind: Literal["unrolled"] = "unrolled"
    unroll: Count = 200
    """T: maximum length of the inner training, in steps."""
    window: Count = 60
    """W: only the last W steps are differentiated. window = unroll is plain BPTT."""
    random: bool = True
    """Draw the number of steps before the window from 0 .. T-W (RaT-BPTT); false: always T-W (truncated BPTT)."""
    redraw_every: Count = 1
    """Outer steps that share one such draw."""
    automatic: bool = False
    """AT-BPTT (Li et al. 2025): the window's place is drawn by the stage of the run and the norms of the inner
    gradients, its length follows their change (distill/objectives/placing.py)."""
    window_change: Annotated[int, Field(ge=0)] = 10
    """d: with automatic, windows are W-d to W+d steps long."""
    temperature: Positive = 1.0
    """tau of the softmax over gradient norms, with automatic."""
    stage_gains: tuple[float, float] = (1.5, 1.0)
    """M and N: with automatic, the early and the middle stage end when the accuracy on real images has risen by less
    than this, in percentage points, from one draw to the next, in stage_patience consecutive draws."""
    stage_patience: tuple[Count, Count] = (30, 25)
    """Such draws in a row that end the early and the middle stage."""
    inner: Literal["adam", "sgd"] = "adam"
    lr_inner: Positive = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Momentum of the inner SGD."""
    batch_syn: Annotated[int, Field(ge=0)] = 0
    """Synthetic images per inner step (0: all)."""
    batch_real: Count = 5000
    clip: Annotated[float, Field(ge=0)] = 2.0
    """Clip the gradient at this multiple of the running mean of its norm (0: never)."""
    clip_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9
    pool: Annotated[int, Field(ge=0)] = 0
    """Networks that continue training from one outer step to the next (FRePO); 0: a fresh network each time, as in
    RaT-BPTT."""
    segments: Count = 1
    """Networks averaged per outer step, over all workers."""
    augment: Augment = Augment(strategies=("flip", "rotate"))

    @property
    def method(self) -> str:
        if self.automatic:
            return "at-bptt"
        if self.pool:
            return "frepo"
        if self.window == self.unroll:
            return "bptt"
        return "rat-bptt" if self.random else "truncated-bptt"

    def check(self, recipe: "Recipe") -> None:
        if self.window > self.unroll:
            raise ValueError(f"objective.window = {self.window} is longer than objective.unroll = {self.unroll}")
        if self.automatic and not self.window_change < self.window <= self.unroll - self.window_change:
            raise ValueError(
                f"objective.automatic makes windows of objective.window = {self.window} +- objective.window_change = "
                f"{self.window_change} steps, which must be 1 to objective.unroll = {self.unroll}: lower window_change"
            )
        if self.automatic and (self.pool or not self.random):
            raise ValueError(
                "objective.automatic places the window itself: leave out objective.pool and random = false"
            )
        if self.pool and recipe.outer.workers != 1:
            raise ValueError("objective.pool needs outer.workers = 1: the pool is not shared between workers")


ObjectiveSettings = Annotated[
    Trajectory | Distribution | Unrolled | Gradient | Adversarial, Field(discriminator="kind"), by_default("trajectory")
]
