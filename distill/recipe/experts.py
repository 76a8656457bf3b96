"""Settings of the augmentation and of the networks trained on the real data."""

from typing import Annotated, Literal

from pydantic import Field

from distill.recipe.settings import Count, Positive, Settings


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
