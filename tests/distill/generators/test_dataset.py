"""A generator of others as a dataset: what is drawn and how it is judged, and what does not fit is refused."""

from dataclasses import replace

import pytest
import torch
from support import small
from support.cli import stillhouse
from support.nvidia_pickles import snapshot, stylegan2

from distill import synthetic
from distill.errors import DataError, RecipeError
from distill.evaluate import Judge
from distill.generators import load_generator
from distill.generators.dataset import as_set
from distill.nets import stylegan2 as sg2
from distill.recipe import parse


def pickled(path, resolution=8, channels=1, classes=10):
    """The path of a random StyleGAN2-ADA as its authors would publish it."""
    size = sg2.Size(resolution, channels, classes, 6, 4, 2, 64, 8, clamp=256.0)
    network = sg2.Generator(size).initialise(torch.Generator().manual_seed(0))
    path.write_bytes(snapshot(stylegan2(network), path.with_suffix(".ran")))
    return path


SAMPLING = ("evaluation.sampling.per_class=3", "evaluation.sampling.truncation=0.5")


@pytest.fixture
def context():
    return small.context("distribution", *SAMPLING, digits=200)


def test_images_are_drawn_once_in_levels_and_preprocessed_as_real_ones(tmp_path, context):
    generator = load_generator(pickled(tmp_path / "g.pkl"))
    made = as_set(generator, context.recipe, context.data)
    y = torch.arange(10).repeat_interleave(3)
    drawn = generator.sampler().fresh(y, torch.Generator().manual_seed(context.seed), 0.5).clamp(0, 1)
    assert torch.equal(made.labels.argmax(1), y) and made.classes == context.data.classes
    assert torch.allclose(made.pixels, drawn, atol=0.5 / 255 + 1e-6)
    assert torch.allclose(made.pixels * 255, (made.pixels * 255).round(), atol=1e-4)
    assert torch.equal(made.images, context.data.preprocess(made.pixels))
    made.check("set")
    whole = as_set(generator, small.context("distribution", digits=200).recipe, context.data)
    assert len(whole) == 500 and not torch.equal(whole.images[:3], made.images[:3]), "50 of each, without truncation"


def test_it_is_judged_like_any_set(tmp_path, context):
    made = as_set(load_generator(pickled(tmp_path / "g.pkl")), context.recipe, context.data)
    assert made.recipe["synthetic"]["kind"] == "pixels" and made.recipe["synthetic"]["ipc"] == 3
    own = replace(context, recipe=parse(made.recipe, "made"))
    restored = synthetic.restore(own, made.state)
    x, labels = small.plain(restored)
    assert torch.equal(x, made.images) and torch.equal(labels, made.labels)
    assert restored.budget().total == 10 * 3 * 64, "the baselines are as many real images"
    assert 0 <= Judge(own).score(restored, None, context.data.test, 1, "test").mean <= 1


@pytest.mark.parametrize(
    "shape, message",
    [
        ({"classes": 0}, "is unconditional.*use a class-conditional generator"),
        ({"resolution": 16}, "makes images of 16x16 pixels, the data have 8x8: set dataset.size=16"),
        ({"channels": 3}, "makes images of 3 channels, the data have 1"),
        ({"classes": 7}, "has 7 classes, the data have 10"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(shape, message, tmp_path, context, monkeypatch, capsys):
    path = pickled(tmp_path / "g.pkl", **shape)
    with pytest.raises(DataError, match=f"g.pkl: {message}"):
        as_set(load_generator(path), context.recipe, context.data, str(path))
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    assert stillhouse(monkeypatch, "evaluate", str(path), "--recipe", "digits") == 2
    assert message.partition(".*")[0] in " ".join(capsys.readouterr().err.split())


def test_images_are_not_drawn_again(tmp_path):
    c = small.context("distribution", *SAMPLING, "evaluation.sampling.redraw_every=2", digits=200)
    with pytest.raises(RecipeError, match="drawn once"):
        as_set(load_generator(pickled(tmp_path / "g.pkl")), c.recipe, c.data)


def test_a_generator_without_a_recipe_needs_one_and_a_set_with_one_takes_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    assert stillhouse(monkeypatch, "evaluate", str(pickled(tmp_path / "g.pkl"))) == 2
    assert "add --recipe NAME or PATH" in " ".join(capsys.readouterr().err.split())
    assert stillhouse(monkeypatch, "evaluate", "some-run", "--recipe", "digits") == 2
    assert "has a recipe of its own" in " ".join(capsys.readouterr().err.split())
