"""Settings of the augmentation and of the networks trained on the real data."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from distill.recipe.settings import Count, Positive, Settings

ExpertUse = Literal["none", "preferred", "required"]
"""Whether a setting uses trained experts: never ("none"), if the store has them ("preferred"), or always
("required")."""


class Augment(Settings):
    """Differentiable augmentation (DSA, Zhao & Bilen 2021). Each batch gets one strategy, chosen at random."""

    strategies: tuple[Literal["color", "crop", "cutout", "flip", "scale", "rotate"], ...] = ()
    """Empty: no augmentation. The papers' full set is color, crop, cutout, flip, scale, rotate."""
    per_sample: bool = True
    """Draw parameters for each image; false: one draw for the whole batch (siamese)."""
    brightness: Annotated[float, Field(ge=0)] = 1.0
    saturation: Annotated[float, Field(ge=0)] = 2.0
    contrast: Annotated[float, Field(ge=0)] = 0.5
    crop_pad: Annotated[float, Field(ge=0, lt=1)] = 0.125
    cutout_size: Annotated[float, Field(gt=0, lt=1)] = 0.5
    flip_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    scale_ratio: Annotated[float, Field(ge=1)] = 1.2
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 15.0
    align_corners: bool = True
    """align_corners of the grid sampling in scale and rotate: true in the MTT family, false in DC, DSA and DM."""


DSA = ("color", "crop", "cutout", "flip", "scale", "rotate")


class Experts(Settings):
    """Networks trained on the real data, with snapshots of their parameters."""

    count: Count = 100
    epochs: Count = 50
    lr: Positive = 0.01
    lr_decay: Literal["none", "step", "cosine"] = "none"
    """Learning rate schedule. none: constant, as in the papers; step: divided by 10 after half of the epochs; cosine:
    cosine decay to 0."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch: Count = 256
    augment: Augment = Augment(strategies=DSA)
    sam_rho: Annotated[float, Field(ge=0)] = 0.0
    """Radius rho of sharpness-aware minimisation (SAM, Foret et al. 2021), for flat trajectories as in FTD (Du et al.
    2023, which uses the variant GSAM with rho 0.01). Doubles the training time; 0: off."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of a moving average of the parameters over steps; snapshots are of the average (0: off). Another way to
    smooth trajectories. This is not FTD's average, which is over the synthetic set."""
    save_every: Count = 1
    """Epochs between snapshots. The initial network and the last epoch are always saved."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Data type of the stored snapshots."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Expert i depends only on the recipe, this seed and i."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of the training step; auto: on if it pays off within a few experts."""
    bf16: Literal["auto", "on", "off"] = "auto"
    """bfloat16 autocast; auto: on if compiled and the hardware multiplies bfloat16. The machine that starts a set
    resolves auto, and the set stores the result, so that all its experts are trained alike."""
    together: Count = 1
    """Experts that a worker trains as one batched computation; faster for networks too small to fill a device. It
    changes the last bits of the experts, so another value means another set of experts."""
    workers: Count = 1
    """Ray Train workers that train experts in parallel."""
    gpus_per_worker: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of a GPU per worker: with 0.25, four workers share one. Ignored on a cluster without GPUs."""
    state_every: Annotated[int, Field(ge=0)] = 10
    """Epochs between saved training states, from which an interrupted expert resumes (0: it restarts). A state holds
    all snapshots so far: at 10, an expert of 50 epochs writes about twice its own size in addition, and an interruption
    loses at most a fifth of its training."""

    @property
    def saved_epochs(self) -> list[int]:
        """Epochs with a snapshot, in ascending order from 0."""
        return sorted({*range(0, self.epochs, self.save_every), self.epochs})

    @model_validator(mode="after")
    def _groups_are_whole(self):
        if self.count % self.together:
            raise ValueError(
                f"experts.count = {self.count} must be a multiple of experts.together = {self.together}: an expert "
                "depends, in its last bits, on how many are trained with it"
            )
        return self
