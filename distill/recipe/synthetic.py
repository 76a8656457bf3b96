"""Settings of the synthetic sets: one class for each module in distill/synthetic/."""

from typing import Annotated, Literal

from pydantic import Field

from distill.recipe.settings import Count, Settings


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
