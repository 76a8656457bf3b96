"""The cards of a set of whitened images say first how to train on it; other cards do not."""

import torch
from support import small

from cluster.tracking import card
from distill.data.preprocess import fit
from distill.published.dataset_card import dataset_card


def text(kind: str) -> str:
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(4, 1, 5, 6, generator=g), torch.softmax(torch.randn(4, 3, generator=g), 1)
    real = torch.randint(0, 256, (50, 1, 5, 6), generator=g, dtype=torch.uint8)
    preprocess = fit(kind, real, torch.device("cpu"))
    made = small.published(x, y, x, ("a", "b", "c"), 0.02, {"name": "tiny"}, 7, {}, preprocess=preprocess)
    return dataset_card(made, {}, ["synthetic.parquet"], "synthetic.parquet")


def test_the_card_of_an_exported_set():
    for kind in ("zca", "zca-podd"):
        body = text(kind).partition("distilled\n\n")[2]
        assert "whitened: train on column `x`, not on the PNGs" in body[:400] and ".preprocess(pixels)" in body[:400]
    assert "whitened" not in text("standardize")


def test_the_card_of_a_registered_version():
    first = card.of_version({"preprocess": "zca"}, ("a", "b"), "tiny", 1).partition("![")[0]
    assert "train on `train.images`, or on column `x`" in first and "train.preprocess(pixels)" in first
    assert "whitened" not in card.of_version({"preprocess": "standardize"}, ("a", "b"), "tiny", 1)
