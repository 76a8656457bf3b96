"""The scores of DD-Ranking: how much of the accuracy is due to the images, not to soft labels or augmentation.

Accuracies are fractions. LRS and ARS are in [0, 1]; random real images have an ARS of 0.269.
"""

import math


def hard_label_recovery(real_hard: float, synthetic_hard: float) -> float:
    """HLR: accuracy with all training images minus accuracy with the set and hard labels."""
    return real_hard - synthetic_hard


def improvement_over_random(synthetic: float, random: float) -> float:
    """IOR: accuracy gain of the set, with its own labels, over random real images of its budget."""
    return synthetic - random


def label_robust_score(hlr: float, ior: float) -> float:
    """LRS: high if the gain over random images is large and does not depend on soft labels."""
    return _between_0_and_1((ior - hlr) / 2)


def augmentation_robust_score(gain_augmented: float, gain_plain: float) -> float:
    """ARS, from the set's gains over random real images, averaged over training with and without augmentation."""
    return _between_0_and_1((gain_augmented + gain_plain) / 2)


def _between_0_and_1(a: float) -> float:
    """Increasing map from [-1, 1] to [0, 1]."""
    return (math.exp(a) - math.exp(-1)) / (math.e - math.exp(-1))


def scores(accuracy: dict[str, float]) -> dict[str, float]:
    """All scores that can be computed from accuracies by row (distill/evaluate/rows.py; `full`: all training images).

    Networks on the full data are trained like experts. LRS needs `full`, ARS the rows with other augmentation.
    """
    result = {"ior": improvement_over_random(accuracy["distilled"], accuracy["random"])}
    if "full" in accuracy:
        result["hlr"] = hard_label_recovery(accuracy["full"], accuracy["distilled-hard"])
        result["lrs"] = label_robust_score(result["hlr"], result["ior"])
    gain = accuracy["distilled-other"] - accuracy["random-other"]
    result["ars"] = augmentation_robust_score(result["ior"], gain)
    return result
