"""DD-Ranking's scores against values worked by hand: (e^a - 1/e) / (e - 1/e), with fractions."""

import math

import pytest

from distill.evaluate import robustness


@pytest.mark.parametrize(("hlr", "ior", "expected"), [(1, -1, 0.0), (-1, 1, 1.0), (0.3, 0.3, 0.26894142)])
def test_the_label_robust_score_at_its_ends_and_in_the_middle(hlr, ior, expected):
    assert robustness.label_robust_score(hlr, ior) == pytest.approx(expected, abs=1e-8)


def test_scores_of_a_worked_example():
    """Full 0.8, set 0.5 (0.4 with hard labels), random 0.2; the other way 0.45 against 0.25.

    HLR 0.4, IOR 0.3, a = -0.05: (0.951229 - 0.367879) / 2.350402 = 0.248192.
    ARS a = (0.3 + 0.2) / 2 = 0.25: (1.284025 - 0.367879) / 2.350402 = 0.389783.
    """
    rows = {"full": 0.8, "distilled": 0.5, "distilled-hard": 0.4, "random": 0.2}
    found = robustness.scores({**rows, "distilled-other": 0.45, "random-other": 0.25})
    assert found["hlr"] == pytest.approx(0.4) and found["ior"] == pytest.approx(0.3)
    assert found["lrs"] == pytest.approx(0.248192, abs=1e-6) and found["ars"] == pytest.approx(0.389783, abs=1e-6)


def test_without_the_full_data_there_is_no_lrs():
    rows = {"distilled": 0.5, "distilled-hard": 0.5, "random": 0.2, "distilled-other": 0.4, "random-other": 0.2}
    assert {*robustness.scores(rows)} == {"ior", "ars"}


def test_random_images_score_the_middle():
    rows = {"distilled": 0.2, "distilled-hard": 0.2, "random": 0.2, "distilled-other": 0.1, "random-other": 0.1}
    assert robustness.scores(rows)["ars"] == pytest.approx((1 - math.exp(-1)) / (math.e - math.exp(-1)))
