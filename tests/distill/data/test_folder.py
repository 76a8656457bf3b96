"""Image folders: every layout, the named subsets of ImageNet, a test part that stays, and each fault named."""

import re

import pytest
from support.pictures import encoded, write

from distill import recipe
from distill.data import cache
from distill.data.folder import decode_all, read, sources
from distill.data.imagenet import SUBSETS
from distill.errors import DataError
from distill.recipe import Folder

SPLIT = {
    "train/cat/1.png": 10, "train/cat/2.png": 11, "train/dog/1.png": 20, "train/dog/2.jpg": 21, "train/dog/3.PNG": 22,
    "test/cat/9.png": 30, "test/dog/9.png": 31,
}  # fmt: skip


def values(x) -> list[int]:
    return x[:, 0, 0, 0].tolist()


def fails(root, *parts: str, **settings) -> str:
    with pytest.raises(DataError) as error:
        read(Folder(path=str(root), **settings))
    for part in parts:
        assert part in str(error.value), str(error.value)
    return str(error.value)


@pytest.mark.parametrize("test", ["test", "val", "validation", "valid"])
def test_parts_classes_and_order(tmp_path, test):
    raw = read(Folder(path=str(write(tmp_path, {k.replace("test/", f"{test}/"): v for k, v in SPLIT.items()}))))
    assert raw.classes == ("cat", "dog")
    assert values(raw.train_x) == [10, 20, 11, 21, 22] and raw.train_y.tolist() == [0, 1, 0, 1, 1]  # around the classes
    assert values(raw.test_x) == [30, 31] and raw.test_y.tolist() == [0, 1]


def test_limits_take_of_all_classes_alike(tmp_path):
    raw = read(Folder(path=str(write(tmp_path, SPLIT)), limit=4, limit_test=1))
    assert values(raw.train_x) == [10, 20, 11, 21] and values(raw.test_x) == [30]


def test_a_folder_without_parts_has_a_test_part_that_stays(tmp_path):
    files = {f"{kind}/{i}.png": 20 * k + i for k, kind in enumerate(("a", "b", "c")) for i in range(10)}
    settings = Folder(path=str(write(tmp_path, files)), test_part=0.3)
    raw, again = read(settings), read(settings)
    assert raw.fingerprint == again.fingerprint
    assert raw.test_y.bincount().tolist() == [3, 3, 3] and raw.train_y.bincount().tolist() == [7, 7, 7]
    assert sorted(values(raw.train_x) + values(raw.test_x)) == sorted(files.values())
    before = set(values(raw.test_x))
    write(tmp_path, {"a/new.png": 200})  # 3 of 11: at most one image changes its part
    assert len(before - set(values(read(settings).test_x))) <= 1


def test_the_test_part_does_not_depend_on_where_the_folder_lies(tmp_path):
    files = {f"{kind}/{i}.png": 20 * k + i for k, kind in enumerate(("a", "b")) for i in range(10)}
    here, there = (read(Folder(path=str(write(tmp_path / name, files)))) for name in ("here", "there"))
    assert here.fingerprint == there.fingerprint


def test_other_files_are_passed_over_and_noted(tmp_path):
    write(
        tmp_path, SPLIT | {"train/cat/Thumbs.db": "x", "train/cat/.hidden.png": 3, "train/.git/a": "", "notes.txt": ""}
    )
    found = decode_all(Folder(path=str(tmp_path)))
    assert len(found.train) == 5 and found.classes == ("cat", "dog")
    assert (
        len(found.notes) == 1 and found.notes[0].startswith("2 files are not images") and "Thumbs.db" in found.notes[0]
    )


def test_images_of_any_size_are_brought_to_one(tmp_path):
    write(tmp_path, SPLIT)
    (tmp_path / "train/cat/wide.jpg").write_bytes(encoded(90, 30, 50, kind="JPEG"))
    fails(tmp_path, "1 fault", "train/cat/wide.jpg: 50x30 pixels, most are 4x4: set dataset.size")
    raw = read(Folder(path=str(tmp_path), size=8))
    assert raw.train_x.shape == (6, 3, 8, 8) and values(raw.train_x) == [10, 20, 11, 21, 90, 22]


def test_grey_images_become_rgb_beside_rgb(tmp_path):
    write(tmp_path, {k: v for k, v in SPLIT.items() if "dog" in k})
    write(tmp_path, {k: v for k, v in SPLIT.items() if "cat" in k}, grey=True)
    raw = read(Folder(path=str(tmp_path)))
    assert raw.train_x.shape[1] == 3 and raw.train_x[0].unique().tolist() == [10]


def test_every_fault_comes_at_once(tmp_path):
    write(tmp_path, SPLIT | {"train/cat/a.png": b"junk", "test/dog/b.png": encoded(3)[:-30], "train/dog/c.jpg": b""})
    fails(tmp_path, "3 faults", "train/cat/a.png: not a PNG", "test/dog/b.png: ", "train/dog/c.jpg: not a PNG")


def test_folders_that_do_not_fit_each_other(tmp_path):
    write(tmp_path, SPLIT | {"train/cow/1.png": 1, "test/horse/1.png": 2})
    fails(tmp_path, "2 faults", "no folder test/cow: add test images", "test/horse is a class that train does not have")


def test_a_folder_without_classes(tmp_path):
    write(tmp_path, {"1.png": 1, "2.png": 2})
    fails(tmp_path, "put the images of each class into a folder with its name")
    (tmp_path / "file").write_text("")
    fails(tmp_path / "file", "is a file: set dataset.path to the folder")


def test_a_file_that_cannot_be_read_names_itself(tmp_path):
    write(tmp_path, SPLIT)
    (tmp_path / "train/cat/1.png").unlink()
    (tmp_path / "train/cat/1.png").symlink_to(tmp_path / "gone.png")
    raw = read(Folder(path=str(tmp_path)))  # a link that leads nowhere is no file
    assert len(raw.train_y) == 4


# ---------------------------------------------------------------- ImageNet


def test_the_subsets_are_those_of_the_reference():
    assert set(SUBSETS) == set(recipe.dataset.Subset.__args__) and len(SUBSETS) == 7
    for classes in SUBSETS.values():
        assert len(classes) == 10 and all(re.fullmatch(r"n\d{8}", wnid) for wnid in classes)
    assert list(SUBSETS["imagenette"].items())[0] == ("n01440764", "tench")
    assert list(SUBSETS["imagemeow"].values())[-1] == "lynx" and SUBSETS["imageyellow"]["n02206856"] == "bee"
    assert SUBSETS["imagefruit"]["n07753592"] == SUBSETS["imageyellow"]["n07753592"] == "banana"


@pytest.mark.parametrize("subset", SUBSETS)
def test_a_subset_is_chosen_from_imagenet_in_its_own_order(tmp_path, subset):
    chosen = list(SUBSETS[subset])
    files = {f"{part}/{wnid}/{part}_{i}.JPEG": 10 * i for part in ("train", "val") for i, wnid in enumerate(chosen)}
    others = {f"{part}/n99999999/x.JPEG": 255 for part in ("train", "val")}
    raw = read(Folder(path=str(write(tmp_path, files | others)), subset=subset))
    assert raw.classes == tuple(SUBSETS[subset].values())
    assert values(raw.train_x) == values(raw.test_x) == [10 * i for i in range(10)]


def test_the_unlabelled_test_folder_of_imagenet_is_passed_over(tmp_path):
    write(tmp_path, {k.replace("test/", "val/"): v for k, v in SPLIT.items()} | {"test/ILSVRC2012_test_1.JPEG": 3})
    assert values(read(Folder(path=str(tmp_path))).test_x) == [30, 31]


def test_class_names_and_folders_are_sources(tmp_path):
    """What is kept decoded is made again when they change."""
    write(tmp_path, {f"{part}/n0144076{i}/1.png": 1 for part in ("train", "val") for i in (4, 5)})
    settings = Folder(path=str(tmp_path))
    first = cache.stamps(sources(settings))
    (tmp_path / "words.txt").write_text("n01440764\ttench\nn01440765\tother\n")
    second = cache.stamps(sources(settings))
    assert set(first) < set(second) and read(settings).classes == ("tench", "other")
    (tmp_path / "words.txt").write_text("n01440764\ttench\nn01440765\tother\nn01440766\tempty\n")
    third = cache.stamps(sources(settings))
    for part in ("train", "val"):
        (tmp_path / part / "n01440766").mkdir()
    assert not set(third) <= set(cache.stamps(sources(settings)))


def test_classes_a_subset_lacks_are_all_named(tmp_path):
    write(tmp_path, {f"{part}/n01440764/1.JPEG": 1 for part in ("train", "val")})
    text = fails(tmp_path, "18 faults", "no folder train/n02102040", subset="imagenette")
    assert "and 8 more" in text


def test_wnids_get_readable_names_where_a_list_has_them(tmp_path):
    write(tmp_path, {f"{part}/{w}/1.png": 1 for part in ("train", "val") for w in ("n01440764", "n02102040")})
    assert read(Folder(path=str(tmp_path))).classes == ("n01440764", "n02102040")
    (tmp_path / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca\nn02102040 English springer, dog\n")
    assert read(Folder(path=str(tmp_path))).classes == ("tench", "English springer")
    (tmp_path / "LOC_synset_mapping.txt").write_text("n01440764 tench\n")
    fails(tmp_path, "does not name n02102040")
    (tmp_path / "LOC_synset_mapping.txt").write_bytes(b"n01440764 tench\nn02102040 \xe9pagneul\nn00000001 \xe9\n")
    fails(tmp_path, "does not name n02102040 in UTF-8: complete it")
