"""Settings of the objectives: one class for each module in distill/objectives/."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from distill.recipe.experts import DSA, Augment
from distill.recipe.settings import Count, Positive, Settings, by_default


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


class Trajectory(Settings):
    """Match a segment of an expert's training trajectory (MTT, Cazenavette et al. 2022, algorithm 1)."""

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
    first_experts: Annotated[int, Field(ge=0)] = 0
    """Experts that are enough to begin with: outer steps below first_steps draw from the first so many (0: all)."""
    first_steps: Annotated[int, Field(ge=0)] = 0
    """Outer steps before all experts are needed; a run waits there for those that another process still trains."""
    segments: Count = 1
    """Starting points averaged per outer step, over all workers."""
    augment: Augment = Augment(strategies=DSA)
    engine: Engine = Engine()

    @model_validator(mode="after")
    def _first_ones_agree(self):
        if bool(self.first_experts) != bool(self.first_steps):
            raise ValueError(
                "first_experts and first_steps belong together: how many experts are enough, for how many outer steps"
            )
        return self

    def start_epochs(self, saved: list[int], below: int | None = None) -> list[int]:
        """The saved epochs from which a segment may start, below `below` (max_start_epoch when it is not given)."""
        return [e for e in saved if self.min_start_epoch <= e < (below or self.max_start_epoch)]


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


ObjectiveSettings = Annotated[
    Trajectory | Distribution | Unrolled, Field(discriminator="kind"), by_default("trajectory")
]
