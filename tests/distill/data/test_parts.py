"""Folders of images as people have them: every spelling of the parts, classes that are named like parts, links, names
that are not UTF-8; and whatever is left unread is said."""

import os

import pytest
from support.pictures import encoded, write

from distill.data.detect import detect, settings_at
from distill.data.folder import decode_all, read
from distill.data.parts import part_of
from distill.errors import DataError
from distill.recipe import Folder

CLASSES = [f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(4)]


def tree(root, **counts):
    """Images of `value` for each folder name, with the classes cat and dog in it."""
    return write(root, {f"{part}/{name}": value for part, value in counts.items() for name in CLASSES})


def decoded(root, **settings):
    return decode_all(Folder(path=str(root), **settings))


def values(images) -> set[int]:
    return {int(image.pixels.flat[0]) for image in images}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Train", "Test"), ("training_set", "test_set"), ("seg_train", "seg_test"), ("train", "Test"),
        ("train", "testing"), ("TRAINING", "VALIDATION"), ("trainset", "testset"), ("Training Data", "Testing Data"),
        ("train2017", "val2017"), ("train-images", "valid"), ("train_64x64", "test_64x64"), ("train", "dev"),
        ("TrainImages", "TestImages"), ("training", "eval"),
    ],
)  # fmt: skip
def test_parts_in_every_spelling(tmp_path, train, test):
    found = decoded(tree(tmp_path, **{train: 10, test: 20}))
    assert found.classes == ("cat", "dog") and found.notes == []
    assert (values(found.train), len(found.train)) == ({10}, 8) and (values(found.test), len(found.test)) == ({20}, 8)
    assert detect(tmp_path) == "folder"


@pytest.mark.parametrize("name", ["bullet_train", "training_shoes", "testarossa", "cat", "trains", "valley", "images"])
def test_names_of_classes_are_not_parts(name):
    assert part_of(name) is None


def test_parts_inside_their_own_names_and_inside_one_folder(tmp_path):
    """As Kaggle's archives unpack: seg_train/seg_train/<class>."""
    tree(tmp_path, **{"archive/seg_train/seg_train": 10, "archive/seg_test/seg_test": 20})
    found = decoded(tmp_path)
    assert found.classes == ("cat", "dog") and values(found.train) == {10} and values(found.test) == {20}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"valid": 30}, "valid/ is left unread (8 images; test/ is the test part)"),
        ({"seg_pred": 30}, "seg_pred/ is left unread (8 images)"),
        ({"Training": 30}, "Training/ is left unread (8 images)"),
    ],
)
def test_a_folder_beside_the_parts_is_said(tmp_path, more, said):
    found = decoded(tree(tmp_path, train=10, test=20, **more))
    assert values(found.train) == {10} and values(found.test) == {20} and found.notes == [said]


def test_a_test_part_without_classes_is_said(tmp_path):
    write(tree(tmp_path, train=10), {"Test/1.png": 20, "Test/2.png": 20})
    found = decoded(tmp_path)
    assert found.notes == [
        "Test/ is left unread (2 images, no folders of classes; test images are drawn from the training part)"
    ]
    assert values(found.test) == {10} and len(found.train) + len(found.test) == 8


def test_loose_images_are_said(tmp_path):
    found = decoded(write(tree(tmp_path, train=10, test=20), {"cover.png": 1, "train/stray.jpg": 2}))
    assert len(found.train) == 8 and sum("left unread" in note for note in found.notes) == 2
    found = decoded(write(tmp_path / "b", {"a/1.png": 1, "b/1.png": 2, "stray.png": 3}))
    assert found.notes == ["1 images in b/ itself, in no folder of a class, are left unread"]


def test_a_class_called_train(tmp_path):
    files = {f"{kind}/{i}.png": 10 * k + i for k, kind in enumerate(("bus", "car", "train")) for i in range(4)}
    assert decoded(write(tmp_path, files)).classes == ("bus", "car", "train") and detect(tmp_path) == "folder"
    two = decoded(write(tmp_path / "two", {k: v for k, v in files.items() if "car" not in k}))
    assert two.classes == ("bus", "train")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["bus/1.png", "train/a/1.png", "train/b/1.png"], "bus/ (1 images) is beside train/"),
        (["test/a/1.png", "test/b/1.png", "val/a/1.png"], "test/ has folders of classes but no training part"),
        (["x/a/1.png", "x/b/1.png", "y/a/1.png", "y/b/1.png"], "x/, y/ hold folders of the same names (a, b, ...)"),
        (["train/1.png", "test/1.png"], "no folders of classes in"),
        (["train/1.png"], "no folders of classes in"),
        (["1.png", "2.png"], "put the images of each class into a folder with its name"),
    ],
)
def test_what_cannot_be_decided_is_refused_with_its_cause(tmp_path, files, said):
    write(tmp_path, dict.fromkeys(files, 1))
    with pytest.raises(DataError) as error:
        read(settings_at(str(tmp_path)))
    assert said in str(error.value)


# ---------------------------------------------------------------- links


def test_links_are_followed_and_never_in_a_circle(tmp_path):
    write(tmp_path, {"far/1.png": 7} | {f"data/{kind}/{i}.png": i for kind in ("cat", "dog") for i in (1, 2)})
    root = tmp_path / "data"
    (root / "cat/more").symlink_to(tmp_path / "far")
    (root / "cat/again").symlink_to(tmp_path / "far")
    (root / "cat/up").symlink_to(root)
    (root / "cat/self").symlink_to(root / "cat")
    (root / "dog/lost.png").symlink_to(tmp_path / "gone.png")
    (root / "dog/file.png").symlink_to(tmp_path / "far/1.png")
    (root / "bird").symlink_to(tmp_path / "far")
    found = decoded(root)
    places = sorted(image.place for image in found.train + found.test)
    own = {"bird/1.png", "cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png", "dog/file.png"}
    assert len(places) == 7 and set(places) - own <= {"cat/again/1.png", "cat/more/1.png"}
    text = "; ".join(found.notes)
    assert "leads to a folder that holds it): cat/self, cat/up" in text
    assert "1 link is not followed (leads to a folder that is read already)" in text
    assert "1 link is not followed (leads nowhere): dog/lost.png" in text


# ---------------------------------------------------------------- names that are not UTF-8


def test_names_that_are_not_utf8(tmp_path):
    root = os.fsencode(tmp_path)
    for name in (b"caf\xe9", b"th\xe9"):
        os.mkdir(root + b"/" + name)
        for i in range(3):
            with open(root + b"/" + name + b"/\xe9%d.png" % i, "wb") as file:
                file.write(encoded(i))
    with open(root + b"/caf\xe9/\xff.png", "wb") as file:
        file.write(b"junk")
    found = decoded(tmp_path)
    assert found.classes == ("caf\\xe9", "th\\xe9")
    bad = [image for image in found.train + found.test if image.fault]
    assert [image.place for image in bad] == ["caf\\xe9/\\xff.png"]
    with pytest.raises(DataError) as error:
        read(Folder(path=str(tmp_path)))
    str(error.value).encode("utf8")
