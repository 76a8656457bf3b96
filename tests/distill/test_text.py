"""Figures as people read them."""

from distill.evaluate.score import Score
from distill.text import percent


def test_a_single_value_has_no_deviation():
    assert percent({"mean": 0.912, "std": 0.0, "n": 1}) == "91.2"
    assert percent({"mean": 0.912, "std": 0.007, "n": 5}) == percent({"mean": 0.912, "std": 0.007}) == "91.2 ± 0.7"
    assert percent(None) == ""
    assert str(Score((0.5,))) == "50.0 % (n=1)" and str(Score((0.5, 0.6))) == "55.0 ± 7.1 % (n=2)"
