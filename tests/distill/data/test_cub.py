"""CUB-200-2011's lists and folders, written small."""

import pytest
from support.pictures import encoded, write

from distill.data.cub import read
from distill.errors import DataError
from distill.recipe import Cub

LISTS = {
    "classes.txt": "1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n",
    "images.txt": "1 001.A/a.jpg\n2 001.A/b.jpg\n3 001.A/c.jpg\n4 002.L/d.jpg\n5 002.L/e.jpg\n",
    "image_class_labels.txt": "1 1\n2 1\n3 1\n4 2\n5 2\n",
    "train_test_split.txt": "1 1\n2 1\n3 0\n4 1\n5 0\n",
}


@pytest.fixture
def root(tmp_path):
    photos = zip(("001.A/a", "001.A/b", "001.A/c", "002.L/d", "002.L/e"), range(10, 60, 10), strict=True)
    return write(tmp_path, LISTS | {f"images/{name}.jpg": encoded(v, 60, 40, kind="JPEG") for name, v in photos})


def test_the_official_split_at_32_pixels(root):
    raw = read(Cub(path=str(root)))
    assert raw.train_x.shape == (3, 3, 32, 32) and raw.test_x.shape == (2, 3, 32, 32)
    assert raw.train_x[:, 0, 0, 0].tolist() == [10, 40, 20] and raw.train_y.tolist() == [0, 1, 0]
    assert raw.test_x[:, 0, 0, 0].tolist() == [30, 50] and raw.test_y.tolist() == [0, 1]
    assert raw.classes == ("Black footed Albatross", "Laysan Albatross")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("images.txt", "1 ../../secret.jpg\n2 /etc/passwd\n", "(?s)2 faults.*'../../secret.jpg' leaves.*passwd"),
        ("images.txt", "one\n", "images.txt line 1: 'one' is not a number and a value"),
        ("image_class_labels.txt", "1 7\n", "(?s)5 faults.*image 1 is of class 7.*image 2 is of class None"),
        ("train_test_split.txt", "1 yes\n", "(?s)5 faults.*image 1 is yes, neither 1"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_used(root, name, content, message):
    (root / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read(Cub(path=str(root)))


def test_a_list_that_is_not_utf8(root):
    (root / "classes.txt").write_bytes(b"1 001.P\xe9lican\n")
    with pytest.raises(DataError, match="classes.txt: not UTF-8 at byte 7: fetch it again"):
        read(Cub(path=str(root)))


def test_missing_lists_are_all_named(tmp_path):
    with pytest.raises(DataError, match=r"(?s)4 faults.*no images.txt.*no classes.txt"):
        read(Cub(path=str(tmp_path)))
