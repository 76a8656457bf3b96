"""`load`: the three splits, what may influence what, and fingerprints, on the digits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from distill import data
from distill.data.base import Raw
from distill.data.split import stratified
from distill.data.split import test_part as part_that_tests
from distill.errors import DataError
from distill.recipe import Digits
from distill.rng import generator

CPU = torch.device("cpu")


def load(seed: int = 0, **settings) -> data.Dataset:
    return data.load(Digits(**settings), seed, CPU)


@pytest.fixture
def raw(monkeypatch) -> Raw:
    """The digits, which a test may change by `set_raw`."""
    return data.read(Digits())


@pytest.fixture
def set_raw(monkeypatch):
    return lambda changed: monkeypatch.setattr(data, "read", lambda settings, notice: changed)


# ---------------------------------------------------------------- the validation part


def test_validation_is_a_tenth_of_each_class():
    d = load(validation=0.1)
    train, held = (torch.bincount(s.y, minlength=10) for s in (d.train, d.validation))
    assert torch.equal(held, ((train + held) * 0.1).round().long())
    assert len(d.train) + len(d.validation) == 1437 and len(d.test) == 360
    assert d.shape == (1, 8, 8) and d.train.x.dtype == torch.float32 and d.train.y.dtype == torch.int64


def test_every_image_is_in_one_part_with_its_label(raw):
    x = torch.arange(1437).view(-1, 1, 1, 1).expand(1437, 1, 2, 2)  # each image says which it is
    train, held = stratified(raw.train_y, 0.25, raw.classes, generator(0, "v"), "digits")
    both = torch.cat((x[train], x[held]))[:, 0, 0, 0]
    assert torch.equal(both.sort().values, torch.arange(1437))
    d = load(preprocess="none", validation=0.25)
    known = {(tuple(p.flatten().tolist()), int(y)) for p, y in zip(raw.train_x, raw.train_y, strict=True)}
    for part in (d.train, d.validation):
        pixels = (part.x * 255).round().to(torch.uint8)
        assert {(tuple(p.flatten().tolist()), int(y)) for p, y in zip(pixels, part.y, strict=True)} <= known


def test_the_split_depends_on_the_seed_alone():
    first, again, other = load(0), load(0), load(1)
    torch.manual_seed(99)
    assert torch.equal(first.train.x, again.train.x) and torch.equal(first.validation.x, again.validation.x)
    assert torch.equal(first.validation.y, load(0, preprocess="zca").validation.y)
    assert not torch.equal(first.validation.x, other.validation.x)
    assert torch.equal(first.test.y, other.test.y)


def test_at_least_one_of_each_class_is_held_out():
    y = torch.tensor([0] * 40 + [1] * 2)
    train, held = stratified(y, 0.01, ("a", "b"), generator(0, "v"), "toy")
    assert y[held].tolist() == [0, 1] and y[train].tolist() == [0] * 39 + [1]


def test_classes_that_would_have_no_image_left_are_refused_by_name():
    y = torch.tensor([0] * 40 + [2])
    with pytest.raises(DataError, match=r"(?s)toy: 2 faults.*'b' has 0 training images.*'c' has 1 .*validation"):
        stratified(y, 0.1, ("a", "b", "c"), generator(0, "v"), "toy")
    with pytest.raises(DataError, match=r"'b' has 2 training images and 2 would be held out"):
        stratified(torch.tensor([0] * 40 + [1] * 2), 0.9, ("a", "b"), generator(0, "v"), "toy")


def test_the_test_part_of_a_dataset_without_one_never_changes():
    """The three lowest SHA-256 of ten names; another choice would make results of one folder incomparable."""
    names = [f"a/{i}.png" for i in range(10)]
    tests = part_that_tests(names, np.zeros(10, int), 0.3)
    assert np.flatnonzero(tests).tolist() == [0, 2, 8]
    y = np.array([0] * 8 + [1] * 2)
    assert part_that_tests(names, y, 0.01)[8:].sum() == 1 and part_that_tests(names, y, 0.99)[8:].sum() == 1
    assert part_that_tests(names[:1], y[:1], 0.5).tolist() == [False]  # the only image of a class trains


def test_one_class_is_refused():
    with pytest.raises(DataError, match="a classifier needs two"):
        stratified(torch.zeros(9, dtype=torch.long), 0.1, ("a",), generator(0, "v"), "toy")


def test_limits_take_the_first_images(raw):
    d = load(preprocess="none", limit=200, limit_test=50)
    assert len(d.train) + len(d.validation) == 200
    assert torch.equal(d.test.y, raw.test_y[:50])
    both = torch.cat((d.train.y, d.validation.y))
    assert torch.equal(both.bincount(), raw.train_y[:200].bincount())


# ---------------------------------------------------------------- what preprocessing is fitted on


@pytest.mark.parametrize("kind", ["standardize", "zca"])
def test_held_out_and_test_images_do_not_influence_the_preprocessing(kind, raw, set_raw):
    before = load(preprocess=kind)
    train, held = stratified(raw.train_y, 0.1, raw.classes, generator(0, "validation split"), "digits")
    probe = torch.randn(5, 1, 8, 8, generator=generator(0, "probe"))

    def changed(index: torch.Tensor) -> data.Dataset:
        x = raw.train_x.clone()
        x[index] = 255
        set_raw(replace(raw, train_x=x, test_x=raw.test_x + 1))
        return load(preprocess=kind)

    after = changed(held[:40])
    assert torch.equal(after.train.x, before.train.x)
    assert torch.equal(after.preprocess.to_pixels(probe), before.preprocess.to_pixels(probe))
    assert not torch.equal(after.validation.x, before.validation.x)
    assert not torch.equal(changed(train[:40]).preprocess.to_pixels(probe), before.preprocess.to_pixels(probe))


def test_to_pixels_undoes_the_preprocessing(raw):
    for kind in ("standardize", "zca", "none"):
        d = load(preprocess=kind)
        assert torch.allclose(d.preprocess.to_pixels(d.test.x) * 255, raw.test_x.float(), atol=1e-2)


# ---------------------------------------------------------------- fingerprints


def test_the_fingerprint_changes_with_each_ingredient(raw, set_raw):
    prints = [load().fingerprint, load(seed=1).fingerprint]
    changes = ({"preprocess": "zca"}, {"validation": 0.2}, {"limit": 1000}, {"limit": 1436}, {"limit_test": 359})
    prints += [load(**change).fingerprint for change in changes]
    for part in ("train_x", "train_y", "test_x", "test_y"):
        tensor = getattr(raw, part).clone()
        tensor.view(-1)[0] = (tensor.view(-1)[0] + 1) % 10
        set_raw(replace(raw, **{part: tensor}))
        prints.append(load().fingerprint)
    set_raw(replace(raw, classes=("zero", *raw.classes[1:])))
    prints.append(load().fingerprint)
    assert len(set(prints)) == len(prints) == 12
    set_raw(raw)
    assert load().fingerprint == prints[0]


def test_the_raw_fingerprint_sees_shapes():
    x, y = torch.zeros(4, 1, 2, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.long)
    wide, tall = Raw(x, y, x, y, ("a", "b")), Raw(x.view(4, 1, 8, 2), y, x, y, ("a", "b"))
    assert wide.fingerprint != tall.fingerprint
