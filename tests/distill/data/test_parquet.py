"""The Parquet reader on small files written here: what it accepts, each fault it names, and real data if present."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from distill import data
from distill.data.detect import detect
from distill.data.parquet import read
from distill.errors import DataError
from distill.recipe import Parquet

NAMES = ("cat", "dog")
DATA_ROOT = Path(os.environ.get("STILLHOUSE_DATA") or Path(__file__).parents[4] / "shared" / "data")


def png(value: int = 0, h: int = 4, w: int = 4, grey: bool = False) -> bytes:
    out = io.BytesIO()
    shape = (h, w) if grey else (h, w, 3)
    Image.fromarray(np.full(shape, value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def metadata(names, label: str = "label") -> dict:
    feature = {"_type": "ClassLabel", "names": list(names)}
    return {b"huggingface": json.dumps({"info": {"features": {label: feature}}}).encode()}


def write(file: Path, images, labels, names=NAMES, columns=("image", "label"), plain=False, **options) -> None:
    kind = pa.binary() if plain else pa.struct({"bytes": pa.binary(), "path": pa.string()})
    values = images if plain else [{"bytes": b, "path": f"{i}.png"} for i, b in enumerate(images)]
    label_type = pa.int64() if not labels or not isinstance(labels[0], str) else pa.string()
    table = pa.table({columns[0]: pa.array(values, kind), columns[1]: pa.array(labels, label_type)})
    pq.write_table(table.replace_schema_metadata(metadata(names, columns[1]) if names else None), file, **options)


@pytest.fixture
def folder(tmp_path):
    """Four training images in two shards and two test images, all 4x4 RGB, each filled with its own value."""
    write(tmp_path / "train-00000-of-00002.parquet", [png(10), png(11)], [0, 1])
    write(tmp_path / "train-00001-of-00002.parquet", [png(12), png(13)], [1, 0])
    write(tmp_path / "test.parquet", [png(20), png(21)], [1, 1])
    return tmp_path


def fails(folder: Path, *parts: str, **settings) -> str:
    """The message of the DataError, checked to hold each part."""
    with pytest.raises(DataError) as error:
        read(Parquet(path=str(folder), **settings))
    for part in parts:
        assert part in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------- what is accepted


def test_shards_are_read_in_the_order_of_their_names(folder):
    raw = read(Parquet(path=str(folder)))
    assert raw.train_x.shape == (4, 3, 4, 4) and raw.train_x.dtype == torch.uint8
    assert raw.train_x[:, 0, 0, 0].tolist() == [10, 11, 12, 13] and raw.train_y.tolist() == [0, 1, 1, 0]
    assert raw.test_x[:, 2, 3, 3].tolist() == [20, 21] and raw.test_y.tolist() == [1, 1]
    assert raw.classes == NAMES and raw.train_y.dtype == torch.int64


def test_plain_binary_and_other_column_names(tmp_path):
    for part in ("train", "test"):
        write(tmp_path / f"{part}.parquet", [png(1), png(2)], [0, 1], columns=("img", "fine"), plain=True)
    raw = read(Parquet(path=str(tmp_path), image="img", label="fine"))
    assert raw.train_x[:, 0, 0, 0].tolist() == [1, 2] and raw.classes == NAMES


def test_validation_files_stand_in_for_missing_test_files_only(folder):
    write(folder / "validation.parquet", [png(30)], [0])
    assert read(Parquet(path=str(folder))).test_x[:, 0, 0, 0].tolist() == [20, 21]
    (folder / "test.parquet").unlink()
    assert read(Parquet(path=str(folder))).test_x[:, 0, 0, 0].tolist() == [30]


def test_classes_without_names_are_numbers(tmp_path):
    write(tmp_path / "train.parquet", [png()] * 3, [0, 2, 1], names=None)
    write(tmp_path / "test.parquet", [png()], [0], names=None)
    assert read(Parquet(path=str(tmp_path))).classes == ("0", "1", "2")


def test_grey_stays_one_channel_and_becomes_rgb_beside_rgb(tmp_path):
    write(tmp_path / "train.parquet", [png(5, grey=True), png(6, grey=True)], [0, 1])
    write(tmp_path / "test.parquet", [png(7, grey=True)], [0])
    assert read(Parquet(path=str(tmp_path))).train_x.shape == (2, 1, 4, 4)
    write(tmp_path / "test.parquet", [png(7)], [0])
    raw = read(Parquet(path=str(tmp_path)))
    assert raw.train_x.shape == (2, 3, 4, 4) and raw.train_x[1].unique().tolist() == [6]


def test_height_and_width_keep_their_places(tmp_path):
    for part in ("train", "test"):
        write(tmp_path / f"{part}.parquet", [png(0, h=2, w=5), png(1, h=2, w=5)], [0, 1])
    assert read(Parquet(path=str(tmp_path))).train_x.shape == (2, 3, 2, 5)


def test_a_relative_path_is_looked_up_in_the_data_folder_else_here(folder, monkeypatch, tmp_path_factory):
    monkeypatch.delenv("STILLHOUSE_DATA", raising=False)
    monkeypatch.chdir(folder.parent)
    assert len(read(Parquet(path=folder.name)).train_y) == 4
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setenv("STILLHOUSE_DATA", str(folder.parent))
    assert len(read(Parquet(path=folder.name)).train_y) == 4


@pytest.mark.parametrize("limit", [2, 3, 5, 99])
def test_limits_take_the_first_rows(tmp_path, limit):
    images = [png(value) for value in range(6)]
    write(tmp_path / "train.parquet", images, [0, 1] * 3, row_group_size=2)
    write(tmp_path / "test.parquet", images, [0, 1] * 3, row_group_size=4)
    raw = read(Parquet(path=str(tmp_path), limit=limit, limit_test=limit))
    assert raw.train_x[:, 0, 0, 0].tolist() == raw.test_x[:, 0, 0, 0].tolist() == list(range(6))[:limit]


def test_row_groups_behind_the_limit_are_not_read(tmp_path):
    file = tmp_path / "train.parquet"
    write(file, [png(), png(), png()], [0, 1, 0], row_group_size=2)
    write(tmp_path / "test.parquet", [png()], [0])
    content = bytearray(file.read_bytes())
    page = pq.read_metadata(file).row_group(1).column(0).data_page_offset
    content[page : page + 20] = bytes(20)
    file.write_bytes(content)
    assert len(read(Parquet(path=str(tmp_path), limit=2)).train_y) == 2
    fails(tmp_path, "train.parquet row group 1: damaged")


# ---------------------------------------------------------------- what is refused


def test_missing_folder(tmp_path):
    fails(tmp_path / "gone", "no file or folder", "gone", "dataset.path", "STILLHOUSE_DATA")


def test_missing_parts_are_both_named(tmp_path):
    fails(tmp_path, "2 faults", "no train*.parquet", "no test*.parquet or validation*.parquet")


def test_missing_columns_name_those_that_are_there(folder):
    text = fails(folder, "no column 'img'", "set dataset.image to one of image, label", image="img", label="fine")
    assert text.count("no column 'fine'") == 3  # each of the three files is named
    assert "train-00001-of-00002.parquet: no column" in text


def test_columns_of_other_types(folder):
    table = pa.table({"image": pa.array([png()]), "label": pa.array([[1]], pa.list_(pa.int64()))})
    pq.write_table(table, folder / "test.parquet")
    fails(folder, "test.parquet: column 'label' is list<element: int64>, not numbers or texts")
    fails(folder, "column 'label' is int64, not binary or a struct", image="label")


def test_a_file_that_is_not_parquet(folder):
    (folder / "test.parquet").write_bytes(b"PAR1 and then nothing that is right")
    fails(folder, "test.parquet: not a readable Parquet file", "copy it again")


def test_a_damaged_row_group(folder):
    file = folder / "test.parquet"
    content = bytearray(file.read_bytes())
    content[4:40] = bytes(36)
    file.write_bytes(content)
    fails(folder, "test.parquet row group 0: damaged")


def test_undecodable_images_and_missing_bytes_name_their_rows(folder):
    write(folder / "train-00001-of-00002.parquet", [png(), b"not an image", None, png()[:-30]], [0, 1, 0, 1])
    text = fails(folder, "3 faults", "train-00001-of-00002.parquet row 1: not a PNG", "row 2: no image bytes")
    assert "row 3: " in text


def test_rows_are_counted_over_the_row_groups_of_a_file(folder):
    images = [png()] * 5 + [b"x"]
    write(folder / "train-00001-of-00002.parquet", images, [0, 1] * 3, row_group_size=2)
    fails(folder, "train-00001-of-00002.parquet row 5: not a PNG")


def test_images_of_other_sizes_name_row_size_and_the_common_size(folder):
    write(folder / "test.parquet", [png(), png(h=8, w=6), png(h=3)], [0, 1, 0])
    text = fails(folder, "2 faults", "test.parquet row 1: 6x8 pixels, most are 4x4: set dataset.size")
    assert "test.parquet row 2: 4x3 pixels" in text


def test_labels_outside_the_classes_name_row_and_value(folder):
    write(folder / "test.parquet", [png()] * 4, [0, 2, -1, None])
    text = fails(folder, "3 faults", "test.parquet row 1: label 2 is not one of the classes 0..1")
    assert "row 2: label -1" in text and "row 3: no label" in text


def test_a_huge_label_without_names_is_a_fault_not_a_million_classes(tmp_path):
    write(tmp_path / "train.parquet", [png()] * 3, [0, 1, 2**60], names=None)
    write(tmp_path / "test.parquet", [png()], [0], names=None)
    fails(tmp_path, "1 fault:", "train.parquet row 2: label 1152921504606846976 is not one of the classes 0..1")


def test_faults_of_all_kinds_come_at_once_ten_shown_all_counted(folder):
    write(folder / "train-00001-of-00002.parquet", [png(), b"x", png(h=9)] + [png()] * 20, [0, 0, 0] + [7] * 20)
    text = fails(folder, "22 faults", "row 1: not a PNG", "row 2: 4x9 pixels", "row 3: label 7", "and 12 more")
    assert text.count(" row ") == 10


def test_fewer_images_than_classes(folder):
    for file in folder.glob("*.parquet"):
        write(file, [png(), png()], [0, 1], names=tuple("abcdef"))
    fails(folder, "4 training images for 6 classes", "raise dataset.limit")


def test_an_empty_part(folder):
    write(folder / "test.parquet", [], [])
    fails(folder, "the test part has no images: add some")


def test_an_empty_class_is_named_when_loaded(folder):
    for file in folder.glob("train*.parquet"):
        write(file, [png()] * 5, [0] * 5)
    with pytest.raises(DataError, match=r"class 'dog' has 0 training images") as error:
        data.load(Parquet(path=str(folder)), 0, torch.device("cpu"))
    assert str(folder) in str(error.value)


def test_class_names_that_differ_between_files(folder):
    write(folder / "test.parquet", [png()], [0], names=("dog", "cat"))
    fails(folder, "class names differ between files", "test.parquet ['dog', 'cat']")


@pytest.mark.parametrize("text", ["{", "[]", '{"info": 3}', '{"info": {"features": {"label": 3}}}'])
def test_metadata_that_does_not_describe_features(folder, text):
    table = pq.read_table(folder / "test.parquet").replace_schema_metadata({b"huggingface": text.encode()})
    pq.write_table(table, folder / "test.parquet")
    fails(folder, "test.parquet: metadata key `huggingface` does not describe features")


def test_class_names_that_are_not_texts(folder):
    write(folder / "test.parquet", [png()], [0], names=("cat", 3))
    fails(folder, "test.parquet: metadata key `huggingface` has class names that are not a list of texts")


# ---------------------------------------------------------------- real data


def real(name: str) -> str:
    if not (DATA_ROOT / name).is_dir():
        pytest.skip(f"no {DATA_ROOT / name}: set STILLHOUSE_DATA to the folder that holds {name}")
    return str(DATA_ROOT / name)


def test_a_slice_of_cifar10_is_the_published_one():
    raw = read(Parquet(path=real("cifar10"), limit=2000, limit_test=500))
    assert raw.train_x.shape == (2000, 3, 32, 32) and raw.test_x.shape == (500, 3, 32, 32)
    assert raw.classes == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert raw.train_y[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]  # data_batch_1 begins so
    assert raw.train_x[0, :, 0, 0].tolist() == [59, 62, 63]  # its first pixel
    assert raw.test_y[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]


def test_other_layouts_on_disk():
    grey = read(Parquet(path=real("fashion_mnist"), limit=1000, limit_test=100))
    assert grey.train_x.shape == (1000, 1, 28, 28) and grey.classes[9] == "Ankle boot"
    assert grey.train_y[:5].tolist() == [9, 0, 0, 3, 0]
    mixed = read(Parquet(path=real("tiny_textures"), limit=2000, limit_test=100))
    assert mixed.train_x.shape == (2000, 3, 64, 64)


# ---------------------------------------------------------------- one file, other places


def test_one_file_has_a_test_part_that_stays(tmp_path):
    write(tmp_path / "all.parquet", [png(v) for v in range(20)], [0, 1] * 10)
    settings = Parquet(path=str(tmp_path / "all.parquet"), test_part=0.3)
    raw, again = read(settings), read(settings)
    assert raw.fingerprint == again.fingerprint and raw.test_y.bincount().tolist() == [3, 3]
    values = torch.cat((raw.train_x, raw.test_x))[:, 0, 0, 0]
    assert values.sort().values.tolist() == list(range(20))
    labels = torch.cat((raw.train_y, raw.test_y))
    assert torch.equal(labels, values.long() % 2)
    limited = read(settings.model_copy(update={"limit": 5, "limit_test": 2}))
    assert torch.equal(limited.train_x, raw.train_x[:5]) and torch.equal(limited.test_x, raw.test_x[:2])


def test_the_folder_data_of_a_hub_snapshot(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("")
    write(tmp_path / "data" / "train-0.parquet", [png(1), png(2)], [0, 1])
    write(tmp_path / "data" / "test-0.parquet", [png(3)], [0])
    assert read(Parquet(path=str(tmp_path))).train_x[:, 0, 0, 0].tolist() == [1, 2]


def test_images_are_brought_to_a_size_as_they_are_decoded(folder):
    write(folder / "test.parquet", [png(9, h=30, w=20), png(8)], [0, 1])
    raw = read(Parquet(path=str(folder), size=8))
    assert raw.train_x.shape == (4, 3, 8, 8) and raw.test_x[:, 0, 0, 0].tolist() == [9, 8]


def test_images_beyond_memory_are_refused_before_they_are_all_decoded(folder, monkeypatch):
    from distill.data import images

    monkeypatch.setattr(images.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 300}))
    with pytest.raises(DataError, match="decoded images need more than 0.0 GB, half.*set dataset.size"):
        read(Parquet(path=str(folder), size=64))


def test_schemes_that_nothing_fetches(monkeypatch):
    from distill import remote

    monkeypatch.setattr(remote, "fetchers", {})
    with pytest.raises(DataError, match="gs://bucket/x: gs:// is not among what can be fetched"):
        data.read(Parquet(path="gs://bucket/x"))


def test_progress_is_reported(folder):
    notices = []
    data.read(Parquet(path=str(folder)), lambda *notice: notices.append(notice))
    assert notices[-1] == ("reading images", 2, 2) and ("reading images", 4, 4) in notices


# ---------------------------------------------------------------- labels of other types


def labelled(file: Path, labels: pa.Array, **options) -> None:
    images = pa.array([{"bytes": png(i % 256)} for i in range(len(labels))], pa.struct({"bytes": pa.binary()}))
    pq.write_table(pa.table({"image": images, "label": labels}), file, **options)


@pytest.mark.parametrize(
    ("labels", "kind", "classes", "numbers"),
    [
        (["dog", "cat", "dog"], pa.string(), ("cat", "dog"), [1, 0, 1]),
        (["dog", "cat", "dog"], pa.large_string(), ("cat", "dog"), [1, 0, 1]),
        ([b"dog", b"cat", b"dog"], pa.binary(), ("cat", "dog"), [1, 0, 1]),
        (["dog", "cat", "dog"], pa.dictionary(pa.int8(), pa.string()), ("cat", "dog"), [1, 0, 1]),
        ([5, 3, 5], pa.dictionary(pa.int8(), pa.int64()), ("3", "5"), [1, 0, 1]),
        ([1.0, 0.0, 1.0], pa.float32(), ("0", "1"), [1, 0, 1]),
        ([True, False, True], pa.bool_(), ("False", "True"), [1, 0, 1]),
        ([5, 1, 2], pa.int16(), ("1", "2", "5"), [2, 0, 1]),
    ],
)
def test_labels_of_every_type(tmp_path, labels, kind, classes, numbers):
    for part in ("train", "test"):
        labelled(tmp_path / f"{part}.parquet", pa.array(labels, kind), row_group_size=2)
    raw = read(Parquet(path=str(tmp_path)))
    assert raw.classes == classes and raw.train_y.tolist() == raw.test_y.tolist() == numbers
    contiguous = classes == ("0", "1")
    assert len(raw.notes) == (not contiguous)
    if not contiguous:
        assert f"{', '.join(classes)}: these {len(classes)} classes are numbered in this order" in raw.notes[0]


def test_classes_do_not_depend_on_the_limit(tmp_path):
    for part in ("train", "test"):
        labelled(tmp_path / f"{part}.parquet", pa.array(["a", "c", "b", "d"] * 2))
    raw = read(Parquet(path=str(tmp_path), limit=5, limit_test=2))
    assert raw.classes == tuple("abcd") and raw.test_y.tolist() == [0, 2]


def test_texts_are_matched_with_the_names_of_a_class_label(folder):
    write(folder / "test.parquet", [png(1), png(2)], ["dog", "cat"])
    assert read(Parquet(path=str(folder))).test_y.tolist() == [1, 0]
    write(folder / "test.parquet", [png(1)], ["cow"])
    fails(folder, "test.parquet row 0: label cow is not one of the 2 classes of the training part")


@pytest.mark.parametrize("wrong", [0, 3])
def test_a_label_that_only_the_test_part_has(tmp_path, wrong):
    labelled(tmp_path / "train.parquet", pa.array([1, 2, 5]))
    labelled(tmp_path / "test.parquet", pa.array([5, wrong]))
    fails(tmp_path, "1 fault", f"test.parquet row 1: label {wrong} is not one of")


def test_fractions_are_no_classes(tmp_path):
    labelled(tmp_path / "train.parquet", pa.array([0.0, 1.0, 0.5, float("nan")]))
    labelled(tmp_path / "test.parquet", pa.array([0.0, 1.0]))
    fails(tmp_path, "2 faults", "train.parquet row 2: label 0.5 is not one of", "train.parquet row 3: no label")


def test_a_column_of_nulls_is_one_line(tmp_path):
    labelled(tmp_path / "train.parquet", pa.nulls(3000))
    labelled(tmp_path / "test.parquet", pa.array([0, 1]))
    text = fails(tmp_path, "3000 images (train.parquet row 0, train.parquet row 1, ")
    assert text.count("no label") == 1 and "..., train.parquet row 2999): no label: add it" in text


def test_the_only_column_of_images_and_of_classes_is_found(tmp_path):
    for part in ("train", "test"):
        write(tmp_path / f"{part}.parquet", [png(1), png(2)], [0, 1], columns=("img", "fine"))
    raw = read(Parquet(path=str(tmp_path)))
    assert raw.classes == NAMES and raw.notes == ("the image column is 'img'", "the label column is 'fine'")
    fails(tmp_path, "no column 'picture'", image="picture")


# ---------------------------------------------------------------- large row groups


def test_row_groups_are_read_in_batches(tmp_path, monkeypatch):
    """A row group of more than 2 GiB cannot be read at once; the limit is small here."""
    from distill.data import parquet

    for part in ("train", "test"):
        write(tmp_path / f"{part}.parquet", [png(i) for i in range(50)], [0, 1] * 25)
    whole, sizes, batches = read(Parquet(path=str(tmp_path))), [], parquet._batches

    def watched(settings, group):
        for batch in batches(settings, group):
            sizes.append(len(batch))
            yield batch

    monkeypatch.setattr(parquet, "_batches", watched)
    monkeypatch.setattr(parquet, "BATCH_BYTES", 400)
    raw = read(Parquet(path=str(tmp_path)))
    assert raw.fingerprint == whole.fingerprint and max(sizes) < 25 and sum(sizes) == 100
    assert read(Parquet(path=str(tmp_path), limit=7)).train_x[:, 0, 0, 0].tolist() == list(range(7))


# ---------------------------------------------------------------- snapshots of the hub


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("plain_text/train-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("default/train/0000.parquet", "default/validation/0000.parquet"),
        ("data/train-00000-of-00001-abc.parquet", "data/valid-00000-of-00001-abc.parquet"),
        ("train/0000.parquet", "test/0000.parquet"),
        ("cifar10-train.parquet", "cifar10-test.parquet"),
        ("Train.parquet", "Test.parquet"),
    ],
)
def test_layouts_of_the_hub(tmp_path, train, test):
    for name, value in ((train, 1), (test, 3)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, [png(value), png(value + 1)], [0, 1])
    (tmp_path / ".cache").mkdir()
    write(tmp_path / ".cache" / "train.parquet", [png(9)], [0])
    raw = read(Parquet(path=str(tmp_path)))
    assert raw.train_x[:, 0, 0, 0].tolist() == [1, 2] and raw.test_x[:, 0, 0, 0].tolist() == [3, 4]
    assert raw.notes == () and detect(tmp_path) == "parquet"


def test_links_of_the_hub_cache(tmp_path):
    (tmp_path / "blobs").mkdir()
    for part in ("train", "test"):
        write(tmp_path / "blobs" / part, [png(1), png(2)], [0, 1])
        link = tmp_path / "snapshots" / "abc" / "plain_text" / f"{part}-00000-of-00001.parquet"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / "blobs" / part)
    assert len(read(Parquet(path=str(tmp_path / "snapshots" / "abc"))).train_y) == 2


def test_several_configurations(tmp_path):
    for config in ("fine", "coarse"):
        (tmp_path / config).mkdir()
        for part in ("train", "test"):
            write(tmp_path / config / f"{part}.parquet", [png(1), png(2)], [0, 1])
    fails(tmp_path, "several configurations (coarse, fine): set dataset.path to the folder of one")
    (tmp_path / "coarse").rename(tmp_path / "default")
    raw = read(Parquet(path=str(tmp_path)))
    assert raw.notes == ("2 Parquet files are left unread: fine/test.parquet, fine/train.parquet",)


def test_a_training_part_alone_and_files_without_a_part(tmp_path):
    for name in ("train", "part-0"):
        folder = tmp_path / name
        folder.mkdir()
        write(folder / f"{name}.parquet", [png(v) for v in range(20)], [0, 1] * 10)
        raw = read(Parquet(path=str(folder)))
        assert len(raw.train_y) == 16 and len(raw.test_y) == 4 and "no test part" in raw.notes[0]


def test_a_test_part_with_secret_labels_is_left_unread(folder):
    write(folder / "test.parquet", [png(20), png(21)], [-1, -1])
    write(folder / "validation.parquet", [png(30)], [0])
    raw = read(Parquet(path=str(folder)))
    assert raw.test_x[:, 0, 0, 0].tolist() == [30]
    assert raw.notes == ("1 Parquet files are left unread: test.parquet",)
