"""What a run is told about itself: each sentence when it is true, and none of a run that went well."""

import pytest

from distill import recipe
from distill.verdict import verdict

FALLING = [1 - 0.01 * i for i in range(50)]


def said(losses=FALLING, step=50, accuracy=0.5, *overrides: str) -> list[str]:
    return verdict(recipe.load("digits", list(overrides)), losses, step, accuracy, 10)


def test_a_good_run_is_told_nothing():
    assert said() == [] and said(losses=[1.0] * 9) == [] and said(losses=[]) == []


@pytest.mark.parametrize("losses", [[1.0] * 50, [1 + 0.1 * (-1) ** i for i in range(50)], FALLING[::-1]])
def test_a_loss_that_has_not_moved(losses):
    (text,) = said(losses)
    assert text.startswith("the loss has not moved") and "raise outer.lr_img (now " in text


def test_a_negative_loss_that_falls_has_moved():
    assert said([-1 - 0.01 * i for i in range(50)]) == []


def test_a_set_no_better_than_guessing_or_than_its_start():
    (text,) = said(accuracy=0.115)
    assert "no better than guessing (11.5 % of 10 classes)" in text and "evaluation." in text
    (text,) = said(step=0)
    assert "no step made the set better than what it started from" in text and "outer.steps" in text
