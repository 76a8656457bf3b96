"""What a finished run should be told about itself: that its loss did not move, or its set is no better than random.

verdict(recipe, losses, selected_step=0, accuracy=0.11, classes=10)    # sentences, each with the setting to raise
"""

from collections.abc import Sequence
from statistics import fmean

from distill.recipe import Recipe

MOVED = 0.01
"""Part by which the mean loss of the last fifth of the steps must be below that of the first fifth."""
FEWEST = 10
"""Losses from which that can be said."""
BETTER = 1.2
"""Times the accuracy of a guess that is better than one."""


def verdict(recipe: Recipe, losses: Sequence[float], selected_step: int, accuracy: float, classes: int) -> list[str]:
    """What is wrong with a result; empty if nothing is.

    `losses` are those of the outer steps in order, `selected_step` is the step whose set is published, and `accuracy`,
    a fraction, is that of networks trained on it.
    """
    said, outer = [], recipe.outer
    rate = f"raise outer.lr_img (now {outer.lr_img:g}) or outer.steps (now {outer.steps:,})"
    fifth = len(losses) // 5
    if len(losses) >= FEWEST and recipe.objective.loss_falls:
        first, last = fmean(losses[:fifth]), fmean(losses[-fifth:])
        if last > first - MOVED * abs(first):
            said.append(f"the loss has not moved: {first:.4g} in the first steps, {last:.4g} in the last: {rate}")
    if accuracy < BETTER / classes:
        longer = "evaluation.steps" if recipe.evaluation.steps else "evaluation.epochs"
        said.append(
            f"networks trained on the set do no better than guessing ({100 * accuracy:.1f} % of {classes} classes): "
            f"{rate}, {longer} if they train too briefly, or synthetic.ipc"
        )
    elif selected_step == 0:
        said.append(f"no step made the set better than what it started from, which is published: {rate}")
    return said
