"""Bringing images to a size: by hand where every pixel is known, by Pillow's own resize elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from distill import data
from distill.data.size import resize_dataset, resize_image
from distill.errors import DataError
from distill.recipe import Digits


def columns(w: int, h: int) -> Image.Image:
    """Each pixel has the number of its column."""
    return Image.fromarray(np.tile(np.arange(w, dtype=np.uint8), (h, 1)))


def rows_of(image: Image.Image) -> list[list[int]]:
    return np.asarray(image).tolist()


def test_zero_leaves_images_as_they_are():
    image = columns(7, 3)
    assert resize_image(image, 0, "shorter") is image


def test_none_cuts_out_the_centre():
    assert rows_of(resize_image(columns(10, 5), 4, "none")) == [[3, 4, 5, 6]] * 4


def test_shorter_resizes_then_cuts_out_the_centre():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8))
    whole = image.resize((36, 16), Image.Resampling.BILINEAR)  # 90 x 40 by 16/40
    assert np.array_equal(resize_image(image, 16, "shorter"), np.asarray(whole)[:, 10:26])
    tall = image.transpose(Image.Transpose.TRANSPOSE)
    assert np.array_equal(resize_image(tall, 16, "shorter"), np.asarray(whole).transpose(1, 0, 2)[10:26])


def test_stretch_resizes_both_sides():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 90), np.uint8))
    assert np.array_equal(resize_image(image, 16, "stretch"), image.resize((16, 16), Image.Resampling.BILINEAR))


def test_enlarging():
    assert np.asarray(resize_image(columns(2, 2), 8, "shorter")).shape == (8, 8)
    with pytest.raises(DataError, match='2x3 image is smaller than dataset.size = 8.*dataset.resize="shorter"'):
        resize_image(columns(2, 3), 8, "none")


def test_slivers_are_cut_down_before_they_are_resized():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 4000), np.uint8))
    centre = image.crop((1995, 0, 2004, 9)).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.array_equal(resize_image(image, 64, "shorter"), centre)


def test_a_dataset_of_arrays_grey_and_rgb():
    raw = data.read(Digits())
    rgb = replace(raw, train_x=raw.train_x.expand(-1, 3, -1, -1), test_x=raw.test_x.expand(-1, 3, -1, -1))
    grey, colour = (resize_dataset(r, Digits(size=16)) for r in (raw, rgb))
    first = Image.fromarray(raw.train_x[0, 0].numpy()).resize((16, 16), Image.Resampling.BILINEAR)
    assert torch.equal(grey.train_x[0, 0], torch.from_numpy(np.array(first)))
    assert grey.test_x.shape == (360, 1, 16, 16) and torch.equal(colour.test_x, grey.test_x.expand(-1, 3, -1, -1))
    assert resize_dataset(raw, Digits(size=8)) is raw and torch.equal(data.read(Digits(size=16)).train_x, grey.train_x)
