"""The map: what lies together in feature space lies together on it, the same every time; the picture of it."""

import numpy as np
import pytest
import torch
from PIL import Image

from distill import nets, recipe, rng
from distill.embed import chosen, draw, embed, features
from distill.errors import DataError

CLASSES = ("cat", "dog", "a $x^2$ bird")


@pytest.fixture(scope="module")
def blobs():
    """Three clouds far apart in 60 dimensions: 20 real images and 2 synthetic ones in each."""
    g = rng.generator(0, "blobs")
    means = 10 * torch.randn(3, 60, generator=g)

    def cloud(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = torch.arange(3).repeat_interleave(n)
        return (means[y] + torch.randn(3 * n, 60, generator=g)).numpy(), y.numpy()

    return *cloud(20), *cloud(2)


@pytest.fixture(scope="module")
def made(blobs):
    return embed(*blobs, CLASSES)


def test_clouds_stay_apart_and_synthetic_images_lie_in_theirs(made):
    centres = np.stack([made.real[made.real_y == k].mean(0) for k in range(3)])
    for places, labels in ((made.real, made.real_y), (made.synthetic, made.synthetic_y)):
        nearest = np.linalg.norm(places[:, None] - centres, axis=2).argmin(1)
        assert (nearest == labels).all()


def test_the_same_features_give_the_same_map_whatever_else_was_drawn(blobs, made):
    torch.randn(3), np.random.default_rng().normal()
    again = embed(*blobs, CLASSES)
    assert np.array_equal(again.real, made.real) and np.array_equal(again.synthetic, made.synthetic)


def test_fewer_than_four_images_are_refused():
    with pytest.raises(DataError, match="3 images"):
        embed(np.zeros((2, 5)), np.zeros(2, int), np.zeros((1, 5)), np.zeros(1, int), CLASSES)


def test_as_json_every_image_has_its_place_class_and_kind(made):
    values = made.as_dict()
    assert values["classes"] == list(CLASSES) and len(values["points"]) == 66
    last = values["points"][-1]
    assert (last["class"], last["synthetic"]) == (CLASSES[2], True)
    assert (last["x"], last["y"]) == tuple(made.synthetic[-1])


def test_chosen_rows_are_of_the_first_classes_and_no_more_than_asked_for():
    y = torch.tensor([0, 4, 1, 2, 0, 1, 3, 2])
    assert chosen(y, 3, 99, 0).tolist() == [0, 2, 3, 4, 5, 7]
    few = chosen(y, 3, 4, 0)
    assert len(few) == 4 and set(few.tolist()) < {0, 2, 3, 4, 5, 7} and few.tolist() == sorted(few.tolist())
    assert torch.equal(few, chosen(y, 3, 4, 0))


def test_features_are_what_the_classifier_sees():
    net = nets.build(recipe.ConvNet(depth=1, width=4), (1, 8, 8), 3)
    theta, x = net.init(rng.generator(0, "theta")), torch.randn(7, 1, 8, 8)
    assert np.allclose(features(net, theta, x), net.features(theta, x).numpy(), atol=1e-6)


def test_the_picture_shows_every_class_in_its_colour(made, tmp_path):
    path = tmp_path / "map.png"
    draw(made, "run $1$: 90 %\nsecond line", path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for colour in ((63, 144, 218), (255, 169, 14), (189, 31, 1)):
        assert (np.abs(pixels.astype(int) - colour).max(1) <= 2).sum() > 100
    assert (pixels == 0).all(1).sum() > 100, "stars have black edges"


def test_what_cannot_be_drawn_is_refused(made, tmp_path):
    many = embed(made.real, made.real_y, made.synthetic, made.synthetic_y, tuple("abcdefghijk"))
    with pytest.raises(DataError, match="11 classes are too many"):
        draw(many, "", tmp_path / "map.png")
    with pytest.raises(DataError, match=r"nowhere.map\.png.*name a file"):
        draw(made, "", tmp_path / "nowhere" / "map.png")
