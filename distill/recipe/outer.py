"""Settings of the outer loop and of the judgement."""

from typing import Annotated, Literal

from pydantic import Field

from distill.recipe.experts import DSA, Augment
from distill.recipe.settings import Count, Positive, Settings


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
