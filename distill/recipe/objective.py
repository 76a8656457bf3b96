"""Settings of the objectives: one class for each module in distill/objectives/."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from distill.recipe.experts import DSA, Augment, ExpertUse
from distill.recipe.settings import Count, Positive, Settings, by_default

if TYPE_CHECKING:
    from distill.recipe.whole import Recipe


class Engine(Settings):
    """How inner training is differentiated (distill/engine/unroll.py)."""

    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of the forward and the adjoint step; auto: on when the run is long enough to pay."""
    keep: Literal["auto", "device", "host", "thin"] = "auto"
    """Where the states of the inner steps wait for the way back; thin: every sqrt(N)-th, the rest recomputed."""
    bf16: bool = False
    """bfloat16 autocast of the student."""
    vectorize: Literal["auto", "on", "off"] = "auto"
    """Several segments as one batched computation, or one after another."""


class ObjectiveBase(Settings):
    """What the settings of every objective have."""

    expert_use: ClassVar[ExpertUse] = "none"
    """Whether it reads the trajectories of experts."""
    segments: Count = 1
    """Independent terms averaged per outer step, each with its own network; outer.workers share them."""

    @property
    def expert_set(self) -> str:
        """Name of the set of experts whose trajectories are read; empty: the recipe's own set."""
        return ""

    @property
    def last_expert_epoch(self) -> int:
        """The latest epoch of an expert that is read."""
        return 0

    @property
    def bf16(self) -> bool:
        """Whether networks run in bfloat16 autocast while distilling."""
        return False

    def check(self, recipe: "Recipe") -> None:
        """Raise ValueError if the rest of the recipe does not fit these settings."""


class Trajectory(ObjectiveBase):
    """Match a segment of an expert's training trajectory (MTT, Cazenavette et al. 2022, algorithm 1)."""

    expert_use: ClassVar[ExpertUse] = "required"
    kind: Literal["trajectory"] = "trajectory"
    syn_steps: Count = 50
    """N: steps of the student on the synthetic set."""
    expert_epochs: Count = 2
    """M: epochs of the expert from the segment's start to its target."""
    max_start_epoch: Count = 2
    """T+: the start epoch is drawn uniformly below it, among those that experts.save_every keeps."""
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
    """Name of a set of experts in the store, of which the first experts.count are used; empty: this recipe's set."""
    segments: Count = 1
    """Starting points averaged per outer step, over all workers."""
    augment: Augment = Augment(strategies=DSA)
    engine: Engine = Engine()

    @property
    def bf16(self) -> bool:
        return self.engine.bf16

    @property
    def expert_set(self) -> str:
        return self.trajectories

    @property
    def last_expert_epoch(self) -> int:
        return self.max_start_epoch + self.expert_epochs

    def start_epochs(self, saved: list[int], below: int | None = None) -> list[int]:
        """The saved epochs from which a segment may start, below `below` (max_start_epoch when it is not given)."""
        return [e for e in saved if self.min_start_epoch <= e < (below or self.max_start_epoch)]

    def check(self, recipe: "Recipe") -> None:
        experts, last = recipe.experts, self.last_expert_epoch
        if last > experts.epochs:
            raise ValueError(
                f"objective.max_start_epoch + objective.expert_epochs = {last} is beyond experts.epochs = "
                f"{experts.epochs}: lower them or save more epochs"
            )
        if self.min_start_epoch >= (self.widen_from or self.max_start_epoch):
            raise ValueError("objective.min_start_epoch must be below the upper end of the start epochs")
        if self.widen_from > self.max_start_epoch:
            raise ValueError("objective.widen_from must not be above objective.max_start_epoch")
        if not self.trajectories:
            self._check_saved_epochs(experts.saved_epochs, experts.save_every)

    def _check_saved_epochs(self, saved: list[int], save_every: int) -> None:
        lost = [e for e in self.start_epochs(saved) if e + self.expert_epochs not in saved]
        if lost or not self.start_epochs(saved, self.widen_from or self.max_start_epoch):
            raise ValueError(
                f"experts.save_every = {save_every} does not keep the epochs that are matched "
                f"(objective.expert_epochs = {self.expert_epochs} after each kept start epoch from "
                f"{self.min_start_epoch} below {self.max_start_epoch}): make objective.expert_epochs a multiple of "
                "experts.save_every, objective.min_start_epoch too, or set experts.save_every = 1"
            )


class Distribution(ObjectiveBase):
    """Mean embeddings of real and synthetic agree in random networks (DM, Zhao & Bilen 2023)."""

    kind: Literal["distribution"] = "distribution"
    batch_real: Count = 256
    """Real images per class per step."""
    augment: Augment = Augment(strategies=DSA, per_sample=False, align_corners=False)
    """Real and synthetic share each draw (siamese)."""
    segments: Count = 1
    """Random networks averaged per outer step, over all workers."""


class Unrolled(ObjectiveBase):
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

    @property
    def bf16(self) -> bool:
        return self.engine.bf16

    def check(self, recipe: "Recipe") -> None:
        if self.window > self.unroll:
            raise ValueError(f"objective.window = {self.window} is longer than objective.unroll = {self.unroll}")
        if self.pool and recipe.outer.workers > 1:
            raise ValueError("objective.pool needs outer.workers = 1: the pool is not shared between workers")


ObjectiveSettings = Annotated[
    Trajectory | Distribution | Unrolled, Field(discriminator="kind"), by_default("trajectory")
]
