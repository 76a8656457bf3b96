"""The papers' figures are found for the data they are of, and for no other."""

import pytest

from distill.papers import reference

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TEN = tuple("0123456789")
HUNDRED = tuple(map(str, range(100)))
TWO_HUNDRED = tuple(map(str, range(200)))


@pytest.mark.parametrize(
    ("dataset", "classes", "side", "title"),
    [
        ({"kind": "parquet", "path": "/data/cifar10"}, TEN, 32, "CIFAR-10"),
        ({"kind": "parquet", "path": "/data/pictures"}, CIFAR10, 32, "CIFAR-10"),
        ({"kind": "cifar", "path": "s3://bucket/CIFAR-100?endpoint=x"}, HUNDRED, 32, "CIFAR-100"),
        ({"kind": "tiny_imagenet", "path": "/data/t"}, TWO_HUNDRED, 64, "Tiny ImageNet"),
        ({"kind": "folder", "path": "/data/imagenet", "subset": "imagefruit"}, TEN, 128, "ImageFruit at 128 px"),
        ({"kind": "cub", "path": "/data/x"}, TWO_HUNDRED, 32, "CUB-200-2011 at 32 px"),
    ],
)
def test_data_are_known_by_name_kind_subset_or_classes(dataset, classes, side, title):
    assert reference(dataset, classes, side).title == title


@pytest.mark.parametrize(
    ("dataset", "classes", "side"),
    [
        ({"kind": "digits"}, TEN, 8),
        ({"kind": "parquet", "path": "cifar10"}, TEN[:5], 32),
        ({"kind": "parquet", "path": "cifar10"}, CIFAR10, 64),
        ({"kind": "parquet", "path": "fashion_mnist"}, TEN, 28),
        ({"kind": "folder", "path": "/home/me/cifar10/mine"}, tuple("abcdefghij"), 32),
    ],
)
def test_other_data_have_none(dataset, classes, side):
    assert reference(dataset, classes, side) is None


def test_figures_are_those_of_the_papers():
    """MTT table 1; PoDD; MTT table 2, ImageSquawk."""
    cifar10 = reference({"path": "cifar10"}, TEN, 32)
    assert cifar10.methods["MTT"] == [(1, 46.3), (10, 65.3), (50, 71.6)] and cifar10.full == 84.8
    assert cifar10.methods["PoDD"][2] == (0.9, 58.4)
    assert reference({"subset": "imagesquawk"}, TEN, 128).methods["MTT"] == [(1, 39.4), (10, 52.3)]
    assert reference({"path": "cifar100"}, HUNDRED, 32).methods["random"][1] == (10, 14.6)
