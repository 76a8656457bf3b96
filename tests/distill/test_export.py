"""Published sets: equal bit for bit after reading, the same bytes each time, whole or not there, clear refusals."""

import dataclasses
import io
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from PIL import Image

from distill import export
from distill.crops import Crops
from distill.errors import DataError
from distill.export import FILE, FILES, Published, read, write
from distill.picture import grid


def published(channels=3, student_lr=0.1 + 0.2, n=4):
    g = torch.Generator().manual_seed(0)
    pixels = torch.rand(n, channels, 5, 6, generator=g)
    y = torch.softmax(torch.randn(n, 3, generator=g), 1)
    state = {"images": torch.randn(n, channels, 5, 6, generator=g), "order": torch.tensor([2, 0, 1])}
    recipe = {"name": "tiny", "outer": {"steps": 3, "lr_img": 0.1}, "experts": {"augment": ["flip"]}}
    return Published((pixels - 0.5) / 0.3, y, pixels, ("ant", "bee/ü", "cow"), student_lr, recipe, 7, state)


def same(a: Published, b: Published):
    for field in dataclasses.fields(Published):
        one, two = getattr(a, field.name), getattr(b, field.name)
        if field.name == "state":
            assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
            assert all(one[k].dtype == two[k].dtype for k in one)
        elif field.name == "crops" and one:
            assert all(torch.equal(getattr(one, k), getattr(two, k)) for k in ("x", "pixels", "corners"))
            assert one.size == two.size
        elif field.name != "pictures":
            assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two, field.name


@pytest.mark.parametrize("channels, student_lr", [(1, None), (3, 0.1 + 0.2)])
def test_round_trip_is_exact(tmp_path, channels, student_lr):
    original = published(channels, student_lr)
    paths = write(original, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == list(FILES) and all(path.is_file() for path in paths)
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == sorted(FILES)
    same(read(tmp_path / "new" / "folder"), original)
    same(read(tmp_path / "new" / "folder" / FILE), original)


def test_tensors_that_share_memory_are_written(tmp_path):
    original = published()
    shared = dataclasses.replace(original, pixels=original.x, state={"images": original.x.requires_grad_()})
    write(shared, tmp_path)
    assert torch.equal(read(tmp_path).state["images"], original.x)


def test_the_same_set_gives_the_same_bytes_in_another_process(tmp_path):
    write(published(), tmp_path / "a")
    write(read(tmp_path / "a"), tmp_path / "b")
    script = "import sys; from pathlib import Path; from distill.export import read, write\n"
    script += "write(read(Path(sys.argv[1])), Path(sys.argv[2]))"
    for other in ("c", "d"):
        subprocess.run([sys.executable, "-c", script, tmp_path / "a", tmp_path / other], check=True)
    for name in FILES:
        assert len({(tmp_path / folder / name).read_bytes() for folder in "abcd"}) == 1, name


def test_parquet_is_in_the_hugging_face_image_layout(tmp_path):
    original = published()
    write(original, tmp_path)
    table = pq.read_table(tmp_path / "synthetic.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"_type": "ClassLabel", "names": ["ant", "bee/ü", "cow"]}
    assert table.column_names == list(features)
    rows = table.to_pylist()
    assert [row["label"] for row in rows] == original.y.argmax(1).tolist()
    for name in ("pixels", "x"):
        stored = torch.tensor([row[name] for row in rows], dtype=torch.float32)
        assert torch.equal(stored.view(original.x.shape), getattr(original, name))
    assert torch.equal(torch.tensor([row["soft_label"] for row in rows], dtype=torch.float32), original.y)
    for row, pixels in zip(rows, original.pixels, strict=True):
        image = np.array(Image.open(io.BytesIO(row["image"]["bytes"])))  # (h, w, c)
        assert image.shape == (5, 6, 3)
        assert np.abs(image / 255 - pixels.permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6


def test_the_picture_has_a_row_for_each_class_of_an_ordered_set():
    ordered = dataclasses.replace(published(n=24), y=torch.eye(3).repeat_interleave(8, 0))
    mixed = dataclasses.replace(ordered, y=torch.eye(3).repeat(8, 1))
    names = ["ant", "bee/ü", "cow"]
    by_class = grid(ordered.pixels, columns=8, labels=[name for name in names for _ in range(8)])
    assert export.picture(ordered).tobytes() == by_class.tobytes()
    assert export.picture(mixed).tobytes() == grid(ordered.pixels, labels=names * 8).tobytes()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    original = published()
    write(original, tmp_path)

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write(dataclasses.replace(original, step=8, pixels=original.pixels / 2), tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(FILES)
    same(read(tmp_path), original)


def test_the_file_that_is_read_is_written_last(tmp_path, monkeypatch):
    order = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(b.name), replace(a, b)))
    write(published(), tmp_path)
    assert len(order) == 4 and order[-1] == FILE


def cropped(n=60):
    """A set of windows of one image, as a poster is."""
    large = torch.rand(1, 3, 20, 40, generator=torch.Generator().manual_seed(0))
    corners = torch.stack([torch.zeros(n), torch.arange(n) % 16, torch.arange(n) % 35], 1).long()
    crops = Crops((large - 0.5) / 0.3, large, corners, (5, 6))
    x, pixels = crops.windows()
    y = torch.eye(3)[torch.arange(n) % 3]
    pictures = {"synthetic": grid(large), "regions": grid(large, scale=2)}
    return Published(x, y, pixels, ("ant", "bee", "cow"), None, {}, 7, {"x": crops.x}, {}, crops, pictures)


def test_windows_of_a_larger_image_are_stored_as_it(tmp_path):
    original = cropped(n=600)
    paths = write(original, tmp_path)
    same(read(tmp_path), original)
    assert paths[-1].stat().st_size < original.x.nbytes
    assert paths[-1].name == FILE and (tmp_path / "regions.png") in paths
    assert np.array_equal(np.array(Image.open(tmp_path / "images.png")), np.array(original.pictures["synthetic"]))
    assert np.array_equal(np.array(Image.open(tmp_path / "regions.png")), np.array(original.pictures["regions"]))


def test_the_table_of_windows_says_where_they_are_cut(tmp_path):
    original = cropped()
    write(original, tmp_path)
    table = pq.read_table(tmp_path / "synthetic.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert table.column_names == list(features) == ["image", "label", "soft_label", "source", "top", "left"]
    places = np.stack([table[name].to_numpy() for name in ("source", "top", "left")], 1)
    assert np.array_equal(places, original.crops.corners.numpy())
    last = np.array(Image.open(io.BytesIO(table["image"][-1].as_py()["bytes"])))
    assert np.abs(last / 255 - original.pixels[-1].permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6


def test_a_reader_without_this_project_cuts_the_same_windows():
    from cluster.tracking.run.registered_model import cut

    crops = Crops(*(t.repeat(2, 1, 1, 1) for t in (cropped().crops.x,) * 2), torch.tensor([[1, 18, 39]]), (5, 6))
    assert np.array_equal(cut(crops.pixels.numpy(), crops.corners.numpy(), 5, 6), crops.windows()[1].numpy())


def test_windows_outside_of_their_image_are_refused(tmp_path):
    original = cropped()
    for corner in ([0, 20, 0], [1, 0, 0], [0, 0, -1]):
        corners = torch.cat([original.crops.corners[:-1], torch.tensor([corner])])
        write(dataclasses.replace(original, crops=dataclasses.replace(original.crops, corners=corners)), tmp_path)
        with pytest.raises(DataError, match="windows lie outside of the images"):
            read(tmp_path)


def metadata(**changes):
    about = {"format": export.FORMAT, "version": 1, "recipe": {}, "classes": ["a", "b", "c"], "student_lr": None}
    return {"stillhouse": json.dumps(about | {"step": 0} | changes)}


def tensors(**changes):
    x = torch.zeros(2, 1, 3, 3)
    return {"x": x, "y": torch.zeros(2, 3), "pixels": x.clone()} | changes


@pytest.mark.parametrize(
    "content, about, says",
    [
        (tensors(), None, "not a distilled set"),
        (tensors(), {"stillhouse": "{"}, "not a distilled set"),
        (tensors(), {"stillhouse": "[1]"}, "not a distilled set"),
        (tensors(), metadata(format="something else"), "not a distilled set"),
        (tensors(), metadata(version=3), "format version 3"),
        ({"x": torch.zeros(2, 1, 3, 3)}, metadata(), "'y' is missing"),
        (tensors(y=torch.zeros(2, 4)), metadata(), "do not fit together"),
        (tensors(y=torch.zeros(3, 3)), metadata(), "do not fit together"),
        (tensors(pixels=torch.zeros(2, 3, 3, 3)), metadata(), "do not fit together"),
    ],
)
def test_what_is_not_a_distilled_set_is_refused_by_name(tmp_path, content, about, says):
    file = tmp_path / "other.safetensors"
    safetensors.torch.save_file(content, file, about)
    with pytest.raises(DataError, match=says) as caught:
        read(file)
    assert str(file) in str(caught.value)


def test_what_fits_is_not_refused(tmp_path):
    safetensors.torch.save_file(tensors(), tmp_path / FILE, metadata())
    assert read(tmp_path).classes == ("a", "b", "c")


def test_missing_and_damaged_files_are_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=f"no distilled set at {tmp_path / FILE}"):
        read(tmp_path)
    write(published(), tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    for damaged in (whole[:-10], whole[:5], b"", b"\xff" * 100):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(DataError, match=f"{FILE}: not a whole safetensors file"):
            read(tmp_path)


def test_shapes_that_do_not_fit_are_not_written(tmp_path):
    with pytest.raises(DataError, match="do not fit together"):
        write(dataclasses.replace(published(), classes=("ant", "bee")), tmp_path / "new")
    assert not (tmp_path / "new").exists()
