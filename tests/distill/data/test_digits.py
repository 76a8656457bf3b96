"""The digits: scikit-learn's numbers, scaled, in two fixed parts."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from distill.data.digits import read
from distill.recipe import Digits


def test_shapes_and_names():
    raw = read(Digits())
    assert raw.train_x.shape == (1437, 1, 8, 8) and raw.test_x.shape == (360, 1, 8, 8)
    assert raw.train_x.dtype == torch.uint8 and raw.train_y.dtype == torch.int64
    assert raw.classes == tuple("0123456789")
    assert raw.test_y.bincount().tolist() == [36] * 10


def test_both_parts_together_are_the_digits_scaled_to_bytes():
    raw, bunch = read(Digits()), load_digits()
    expected = np.round(bunch.images * 255 / 16).astype(int)

    def rows(x, y):
        return sorted((*map(int, image.reshape(-1)), int(label)) for image, label in zip(x, y, strict=True))

    ours = rows(torch.cat((raw.train_x, raw.test_x)).numpy(), torch.cat((raw.train_y, raw.test_y)))
    assert ours == rows(expected, bunch.target)
    assert raw.train_x.max() == 255


def test_the_test_part_is_fixed():
    assert read(Digits()).fingerprint == read(Digits(limit=3)).fingerprint
    assert read(Digits()).fingerprint == "8dca76dbed0ead88e9ac8cb200ea5ef3b9bfb6cf745ba57289347ea68fd0c3a5"
