"""Settings of the augmentation and of the networks trained on the real data."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from distill.recipe.settings import Count, Positive, Settings

ExpertUse = Literal["none", "preferred", "required"]
"""Whether something looks at the real images through trained experts: no; through those that the store holds, if any;
or not without them."""


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
    """Networks trained on the real data, their parameters kept along the way."""

    count: Count = 100
    epochs: Count = 50
    lr: Positive = 0.01
    lr_decay: Literal["none", "step", "cosine"] = "none"
    """The rate over the epochs: constant (the papers); a tenth in the second half; half a cosine, down to 0."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch: Count = 256
    augment: Augment = Augment(strategies=DSA)
    sam_rho: Annotated[float, Field(ge=0)] = 0.0
    """Flat trajectories (FTD, Du et al. 2023): each gradient is taken so far uphill, which is plain sharpness-aware
    minimisation (Foret et al. 2021; FTD has its variant GSAM, rho 0.01). Doubles the time; 0: off."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Snapshots are the moving average of the parameters over the steps, with this decay (0: off), the other way to
    smooth trajectories. It is not the average of FTD, which is over the synthetic set."""
    save_every: Count = 1
    """Epochs between the snapshots that are kept. The fresh network and the last epoch always are."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """How snapshots are stored."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Expert i depends only on the recipe, this seed and i."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of the training step; auto: where a few experts earn what it costs."""
    bf16: Literal["auto", "on", "off"] = "auto"
    """bfloat16 autocast; auto: with compile, on machines that multiply it in hardware. What auto means is settled by
    the machine that begins a set and is kept with the set, so that its experts are of one kind."""
    together: Count = 1
    """Experts a worker trains as one batched computation; pays for networks too small to fill a device. It changes
    the last bits of an expert, so it makes another set."""
    workers: Count = 1
    """Ray Train workers that train experts side by side."""
    gpus_per_worker: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of a GPU that a worker claims: with 0.25, four workers share one. Nothing on a cluster without GPUs."""
    state_every: Annotated[int, Field(ge=0)] = 10
    """Epochs between saved states of an expert in training, from which it goes on after a kill (0: from its start).
    A state holds all snapshots so far: at 10, an expert of 50 epochs writes its own size about twice more, and a kill
    costs at most a fifth of it."""

    @property
    def saved_epochs(self) -> list[int]:
        """The epochs whose parameters are kept, rising from 0."""
        return sorted({*range(0, self.epochs, self.save_every), self.epochs})

    @model_validator(mode="after")
    def _groups_are_whole(self):
        if self.count % self.together:
            raise ValueError(
                f"experts.count = {self.count} must be a multiple of experts.together = {self.together}: an expert "
                "depends, in its last bits, on how many are trained with it"
            )
        return self
