"""scikit-learn's handwritten digits: 1,797 grey 8x8 images that come with the package, so nothing is downloaded."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from distill.data.base import Raw
from distill.data.images import Notice, silent
from distill.recipe import Digits
from distill.rng import generator

TEST_PER_CLASS = 36


def read(settings: Digits, notice: Notice = silent) -> Raw:
    """1,437 training and 360 test images (n, 1, 8, 8), uint8. The test part is 36 of each class, always the same."""
    (package,) = find_spec("sklearn").submodule_search_locations  # not imported, which takes a second
    table = torch.from_numpy(np.loadtxt(Path(package, "datasets/data/digits.csv.gz"), delimiter=","))
    x = (table[:, :-1] * (255 / 16)).round().to(torch.uint8).view(-1, 1, 8, 8)
    y = table[:, -1].long()
    g = generator(0, "digits test part")
    test = torch.zeros(len(y), dtype=torch.bool)
    for label in range(10):
        members = (y == label).nonzero().flatten()
        test[members[torch.randperm(len(members), generator=g)[:TEST_PER_CLASS]]] = True
    return Raw(x[~test], y[~test], x[test], y[test], tuple(str(label) for label in range(10)))


def sources(settings: Digits) -> list[Path]:
    """Empty: scikit-learn contains the images."""
    return []
