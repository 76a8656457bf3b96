"""The scores of DD-Ranking, which ask whether the images, rather than soft labels or augmentation, carry the accuracy.

Accuracies are fractions. LRS and ARS lie in [0, 1]; an ARS of 0.269 is that of random real images.
"""

import math


def hard_label_recovery(real_hard: float, synthetic_hard: float) -> float:
    """HLR: what networks on the set with hard labels lack of those on all training images."""
    return real_hard - synthetic_hard


def improvement_over_random(synthetic: float, random: float) -> float:
    """IOR: what the set, with its own labels, gains over random real images of its budget."""
    return synthetic - random


def label_robust_score(hlr: float, ior: float) -> float:
    """LRS, high where the gain over random is large and does not hang on soft labels."""
    return _between_0_and_1((ior - hlr) / 2)


def augmentation_robust_score(gain_augmented: float, gain_plain: float) -> float:
    """ARS, of the set's gains over random real images with and without augmentation, averaged."""
    return _between_0_and_1((gain_augmented + gain_plain) / 2)


def _between_0_and_1(a: float) -> float:
    """[-1, 1] to [0, 1], rising."""
    return (math.exp(a) - math.exp(-1)) / (math.e - math.exp(-1))


def scores(accuracy: dict[str, float]) -> dict[str, float]:
    """All scores that the accuracies by row allow (distill/evaluate/rows.py; `full` for all training images).

    The full data's networks are trained as experts are. LRS needs `full`, ARS the rows with other augmentation.
    """
    found = {"ior": improvement_over_random(accuracy["distilled"], accuracy["random"])}
    if "full" in accuracy:
        found["hlr"] = hard_label_recovery(accuracy["full"], accuracy["distilled-hard"])
        found["lrs"] = label_robust_score(found["hlr"], found["ior"])
    gain = accuracy["distilled-other"] - accuracy["random-other"]
    found["ars"] = augmentation_robust_score(found["ior"], gain)
    return found
