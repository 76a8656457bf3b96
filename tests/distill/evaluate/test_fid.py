"""FID: the closed form, as many images as real ones, classes, and the name of the features beside every figure."""

import sys
from dataclasses import replace

import pytest
import scipy.linalg
import torch
from support import small

from distill import features, synthetic
from distill.data.base import Split
from distill.errors import DataError, RecipeError
from distill.evaluate import fid as fids
from distill.evaluate.fid import FID, fid
from distill.published import Images, Published


def frechet(a, b):
    """The textbook formula, with SciPy's square root of a matrix."""
    (m, s), (n, t) = ((f.double().mean(0), torch.cov(f.double().T)) for f in (a, b))
    root = torch.tensor(scipy.linalg.sqrtm((s @ t).numpy()).real)
    return ((m - n).square().sum() + (s + t - 2 * root).trace()).item()


def set_of(context, x, y) -> Published:
    return Published(Images(x, y), context.data.classes, context.data.preprocess, None, {}, 1, {})


def as_set(context, split: Split) -> Published:
    return set_of(context, split.x, torch.nn.functional.one_hot(split.y, context.classes).float())


@pytest.fixture
def context():
    return small.context("distribution", "network.width=2", "network.depth=3")


def test_the_distance_is_that_of_two_normal_distributions():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(1100, 5, generator=g), torch.randn(700, 5, generator=g) @ torch.randn(5, 5, generator=g) + 1
    assert fids.distance(a, b) == pytest.approx(frechet(a, b), rel=1e-6)
    one, far = torch.tensor([[-1.0], [1.0]]), torch.tensor([[4.0], [8.0]])  # means 0, 6; variances 2, 8
    assert fids.distance(one, far) == pytest.approx(36 + 2 + 8 - 2 * 4, rel=1e-6)


def test_a_set_is_compared_as_a_whole_and_class_by_class(context):
    train, test = context.data.train, context.data.test
    measured = fid(as_set(context, test), context, "random")
    embed = features.of("random", context, -1)
    real, own = embed(train.x), embed(test.x)
    assert measured.value == pytest.approx(frechet(real, own), rel=1e-4)
    expected = [frechet(real[train.y == k], own[test.y == k]) for k in range(3)]
    assert list(measured.by_class) == list(context.data.classes)
    assert list(measured.by_class.values()) == pytest.approx(expected, rel=1e-4)
    assert measured.of_classes == pytest.approx(sum(expected) / 3, rel=1e-4)
    assert (measured.images, measured.real) == (12, 45)
    assert fid(as_set(context, train), context, "random").value == pytest.approx(0, abs=1e-3)


def test_a_generator_draws_as_many_of_each_class_as_there_are_real_ones():
    c = small.context("distribution", "synthetic={}", "synthetic.kind=generator", "network.width=2")
    c = replace(c, data=replace(c.data, train=Split(c.data.train.x[:40], c.data.train.y[:40])))
    stored = synthetic.build(c).stored()
    published = Published(stored, c.data.classes, c.data.preprocess, None, {}, 1, {})
    x, y = fids.images_of(published, c.data.train.y, 0.5, 7)
    assert y.bincount().tolist() == c.data.train.y.bincount().tolist() == [14, 13, 13]
    assert torch.equal(x, stored.fresh(y, torch.Generator().manual_seed(7), 0.5))
    assert fid(published, c, "random", 0.5).value != fid(published, c, "random", 1.0).value


def test_features_name_every_figure_and_are_not_those_a_gan_was_trained_against(context):
    published, last = as_set(context, context.data.test), context.experts.epochs[-1]
    measured = [fid(published, context, choice) for choice in ("random", "experts")]
    labels = [m.features for m in measured]
    assert labels == [features.of(choice, context, -1).label for choice in ("random", "experts")]
    assert not set(labels) & {features.of(choice, context).label for choice in ("random", "experts")}
    assert context.experts.asked == [(1, last)] * 2 + [(0, last)], "the last expert, not the first"
    for m in measured:
        assert m.features in str(m) and "not comparable" in str(m) and m.as_dict()["features"] == m.features
    assert measured[0].value != measured[1].value


def test_classes_with_one_image_have_no_figure_and_one_image_has_none(context):
    x, y = context.data.test.x[:4], torch.eye(3)[[0, 0, 1, 2]]
    measured = fid(set_of(context, x, y), context, "random")
    assert list(measured.by_class) == ["class 0"]
    lone = fid(set_of(context, x[1:], y[1:]), context, "random")
    assert lone.by_class == {} and lone.of_classes is None and "mean of classes" not in str(lone)
    assert lone.as_dict()["class_fid"] is None
    with pytest.raises(DataError, match="needs 2 images or more, this set has 1"):
        fid(set_of(context, x[:1], y[:1]), context, "random")


def test_inception_needs_its_weights_and_torch_fidelity(context, tmp_path, monkeypatch):
    published = as_set(context, context.data.test)
    with pytest.raises(DataError, match="pt_inception-2015-12-05"):
        fid(published, context, f"inception:{tmp_path}/none.pth")
    (tmp_path / "weights.pth").write_bytes(b"")
    monkeypatch.setattr("torchmetrics.image.fid._TORCH_FIDELITY_AVAILABLE", False)
    with pytest.raises(RecipeError, match="pip install torch-fidelity"):
        fid(published, context, f"inception:{tmp_path}/weights.pth")


@pytest.mark.parametrize("channels", [1, 3])
def test_inception_sees_levels_of_three_channels(channels, context, tmp_path, monkeypatch):
    """A stand-in for torch-fidelity's network, which is not installed: it takes uint8 images and gives features."""
    seen = []

    class Metric:
        def __init__(self, feature, feature_extractor_weights_path):
            assert (feature, feature_extractor_weights_path) == (2048, str(tmp_path / "weights.pth"))
            self.inception = self

        def to(self, device):
            return lambda x: (seen.append(x), x.flatten(1).float())[1]

    (tmp_path / "weights.pth").write_bytes(b"")
    monkeypatch.setattr(fids, "FrechetInceptionDistance", Metric)
    embed, x = fids.inception(tmp_path / "weights.pth", context), context.data.train.x[:2, :channels]
    assert embed(x).shape == (2, 3 * 64) and seen[0].dtype == torch.uint8
    assert torch.equal(seen[0][:, :channels], context.data.preprocess.to_pixels(x).mul(255).round().to(torch.uint8))


def test_reading_the_module_needs_no_torch_fidelity():
    assert "torch_fidelity" not in sys.modules and FID(1.0, {}, "x", 2, 2).of_classes is None
