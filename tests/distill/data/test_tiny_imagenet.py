"""Tiny ImageNet's layout, written small."""

import pytest
from support.pictures import write

from distill.data.tiny_imagenet import read, sources
from distill.errors import DataError
from distill.recipe import TinyImagenet

FILES = {
    "wnids.txt": "n02000000\nn01000000\n",
    "words.txt": "n01000000\tgoldfish, Carassius auratus\nn02000000\tking penguin\nn03000000\tother\n",
    "train/n01000000/n01000000_boxes.txt": "ignored",
    "train/n01000000/images/n01000000_0.JPEG": 10,
    "train/n01000000/images/n01000000_2.JPEG": 20,
    "train/n01000000/images/n01000000_10.JPEG": 30,
    "train/n02000000/images/n02000000_0.JPEG": 40,
    "val/val_annotations.txt": "val_0.JPEG\tn02000000\t0\t32\t44\t62\nval_1.JPEG\tn01000000\t1\t2\t3\t4\n",
    "val/images/val_0.JPEG": 50,
    "val/images/val_1.JPEG": 60,
    "test/images/test_0.JPEG": 70,
}


def fails(root, *parts: str) -> None:
    with pytest.raises(DataError) as error:
        read(TinyImagenet(path=str(root)))
    assert all(part in str(error.value) for part in parts), str(error.value)


def test_layout_classes_and_order(tmp_path):
    settings = TinyImagenet(path=str(write(tmp_path, FILES)))
    raw = read(settings)
    assert raw.classes == ("goldfish", "king penguin")
    assert raw.train_x[:, 0, 0, 0].tolist() == [10, 40, 20, 30] and raw.train_y.tolist() == [0, 1, 0, 0]
    assert raw.test_x[:, 0, 0, 0].tolist() == [60, 50] and raw.test_y.tolist() == [0, 1]
    assert len(sources(settings)) == 3 + 6


def test_what_is_missing_is_all_named(tmp_path):
    (tmp_path / "val").mkdir()
    fails(tmp_path, "3 faults", "no wnids.txt", "no words.txt", "no val/val_annotations.txt")


def test_lines_that_cannot_be_used(tmp_path):
    bad = "val_0.JPEG\tn09999999\n../../secret\tn01000000\nval_1.JPEG\n"
    fails(
        write(tmp_path, FILES | {"val/val_annotations.txt": bad}),
        "3 faults",
        "line 1",
        "line 2",
        "line 3: 'val_1.JPEG'",
    )


def test_a_class_number_that_is_a_path(tmp_path):
    fails(write(tmp_path, FILES | {"wnids.txt": "../up\nn01000000\n"}), "'../up' is not a class number")


def test_a_validation_image_that_is_not_there(tmp_path):
    write(tmp_path, FILES)
    (tmp_path / "val/images/val_1.JPEG").unlink()
    fails(tmp_path, "val/images/val_1.JPEG: cannot be read (No such file")
