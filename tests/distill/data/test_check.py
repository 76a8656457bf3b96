"""Looking a dataset over: all faults of all kinds at once, what is no fault, and the sheet."""

import numpy as np
import pytest
from support.pictures import encoded, write

from distill.data import check
from distill.data.detect import detect
from distill.errors import DataError
from distill.recipe import Digits, Folder, Npz

SOUND = {f"train/{kind}/{i}.png": 60 * k + i for k, kind in enumerate("abc") for i in range(4)}
SOUND |= {f"test/{kind}/{i}.png": 60 * k + 30 + i for k, kind in enumerate("abc") for i in range(2)}


def report(root, files, **settings) -> check.DatasetReport:
    return check.inspect(Folder(path=str(write(root, files)), **settings))


def test_a_sound_dataset_has_no_faults(tmp_path):
    found = report(tmp_path, SOUND)
    assert found.faults == [] and found.notes == []
    assert found.train == check.PartCounts(12, [4, 4, 4]) and found.test == check.PartCounts(6, [2, 2, 2])
    assert found.classes == ("a", "b", "c") and found.shape == (3, 4, 4)


def test_faults_of_every_kind_come_at_once(tmp_path):
    files = SOUND | {
        "train/a/bad.png": b"junk",
        "train/a/odd.png": encoded(1, 5, 6),
        "train/c/only.png": 7,
        "test/b/leak.png": SOUND["train/a/0.png"],
    }
    files |= {f"train/b/more{i}.png": encoded(i, 4, 4) for i in range(160, 250)}
    for i in range(4):
        del files[f"train/c/{i}.png"]
    files |= {f"train/empty/{i}.txt": "" for i in range(3)} | {"test/empty/1.png": 5}
    found = report(tmp_path, files)
    for text in (
        "train/a/bad.png: not a PNG",
        "train/a/odd.png: 6x5 pixels, most are 4x4",
        "class 'empty' has no training image",
        "class 'c' has 1 training image",
        "test/b/leak.png is train/a/0.png pixel for pixel",
    ):
        assert any(text in fault for fault in found.faults), (text, found.faults)
    assert len(found.faults) == 5
    assert any("class 'c' has 1 training images, 'b' has 94" in note for note in found.notes)
    assert any("3 files are not images by their names" in note for note in found.notes)


def test_more_than_ten_faults_are_all_listed(tmp_path):
    found = report(tmp_path, SOUND | {f"train/a/bad{i}.png": b"junk" for i in range(30)})
    assert len(found.faults) == 30 and found.train.images == 12


def test_images_of_many_sizes_are_one_fault_and_hide_no_other(tmp_path):
    files = {name: encoded(value, 20 + i % 7, 20 + i % 5) for i, (name, value) in enumerate(SOUND.items())}
    files |= {"train/a/bad.png": b"junk", "test/b/leak.png": files["train/a/0.png"]}
    found = report(tmp_path, files)
    assert len(found.faults) == 3 and found.train.images == 12 and found.shape == (3, 20, 20)
    assert "images are not 2" in found.faults[0] and "their sides are 20 to 26 pixels" in found.faults[0]
    assert found.faults[2].startswith("test/b/leak.png is train/a/0.png")
    assert report(tmp_path, {}, size=16).faults == found.faults[1:]


def test_a_sliver_is_cut_down_and_noted_and_hides_no_other(tmp_path):
    files = {name: encoded(value, 20 + i % 7, 20 + i % 5) for i, (name, value) in enumerate(SOUND.items())}
    found = report(tmp_path, files | {"train/a/sliver.png": encoded(9, 10, 400), "train/b/bad.png": b"junk"})
    assert any(f.startswith("train/b/bad.png: not a PNG") for f in found.faults) and found.train.images == 13
    note = "1 image has one side more than 16 times the other, and only the central square is used: train/a/sliver.png"
    assert f"{note} (400x10)" in report(tmp_path, {}, size=16).notes


def test_faults_of_readers_without_rows_are_all_listed(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=np.zeros((2, 3, 3), np.uint8))
    found = check.inspect(Npz(path=str(tmp_path / "x.npz")))
    assert len(found.faults) == 3 and found.raw is None and found.shape is None
    with pytest.raises(DataError, match="nothing to draw"):
        check.sheet(found)


def test_duplicates_in_the_training_part_are_noted(tmp_path):
    found = report(
        tmp_path, SOUND | {"train/a/again.png": SOUND["train/a/0.png"], "train/b/x.png": SOUND["train/a/1.png"]}
    )
    assert found.faults == []
    assert found.notes == ["2 training images occur more than once, 1 of them in another class"]


def test_imbalance_is_a_note_and_limit_class_caps_it(tmp_path):
    files = {f"{part}/{kind}/{i}.png": i for part, n in (("train", 34), ("test", 2)) for kind in "ab" for i in range(n)}
    files |= {f"train/few/{i}.png": 100 + i for i in range(2)} | {"test/few/1.png": 3}
    found = report(tmp_path, files)
    assert not any("34" in fault for fault in found.faults)
    assert [note for note in found.notes if "'few' has 2 training images, 'a' has 34" in note]
    capped = report(tmp_path, {}, limit_class=6)
    assert capped.train.per_class == [6, 6, 2] and not any("count most" in note for note in capped.notes)
    assert sorted(capped.raw.train_x[capped.raw.train_y == 0][:, 0, 0, 0].tolist()) == [0, 1, 10, 11, 12, 13]  # by name


def test_a_fault_of_very_many_images_is_one_line(tmp_path):
    found = report(tmp_path, SOUND | {f"train/a/bad{i:03}.png": b"junk" for i in range(101)})
    assert len(found.faults) == 1
    assert found.faults[0].startswith("101 images (train/a/bad000.png, train/a/bad001.png,")
    assert "..., train/a/bad100.png): not a PNG" in found.faults[0]


def test_only_one_class(tmp_path):
    found = report(tmp_path, {k: v for k, v in SOUND.items() if "/a/" in k})
    assert any("only the class ('a',)" in fault for fault in found.faults)


def test_the_sheet_has_a_row_for_each_class(tmp_path):
    found = report(tmp_path, SOUND)
    picture = check.sheet(found)
    pixels = np.asarray(picture)
    for value in list(SOUND.values())[:12]:  # every training image of three classes of four is on it
        assert (pixels == value).all(2).sum() > 90 * 90, value
    assert check.sheet(check.inspect(Digits())).width > 8 * 90


def test_kinds_are_told_by_names(tmp_path):
    layouts = {
        "folder": {"cat/1.png": 1, "dog/1.png": 1},
        "tiny_imagenet": {"wnids.txt": "", "train/n01440764/images/1.JPEG": 1, "val/val_annotations.txt": ""},
        "cub": dict.fromkeys(("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt"), ""),
        "parquet": {"data/train-0.parquet": ""},
        "idx": {"train-images-idx3-ubyte.gz": ""},
        "npz": {f"{name}.npy": "" for name in ("x_train", "y_train", "x_test", "y_test")},
        "cifar": {"cifar-10-batches-py/test_batch": ""},
    }
    for kind, files in layouts.items():
        assert detect(write(tmp_path / kind, files)) == kind
    write(tmp_path / "single", {"a.parquet": ""})
    assert detect(tmp_path / "single" / "a.parquet") == "parquet"
    np.savez(tmp_path / "x.npz", a=1)
    assert detect(tmp_path / "x.npz") == "npz"
    for nothing in (write(tmp_path / "none", {"readme.txt": "x"}), tmp_path / "none" / "readme.txt"):
        with pytest.raises(DataError, match="no dataset known by its names"):
            detect(nothing)
