"""Published sets: equal bit for bit after reading, the same bytes each time, whole or not there, clear refusals."""

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from PIL import Image
from safetensors import safe_open

from distill import recipe
from distill.crops import cut
from distill.data import preprocess as preprocessing
from distill.data.preprocess import Standardize
from distill.errors import DataError
from distill.picture import grid
from distill.published import FILE, FILES, Images, Published, Sampler, Windows, files, forms, read, write
from distill.published.files import FORMAT


def published(channels=3, student_lr=0.1 + 0.2, n=4):
    g = torch.Generator().manual_seed(0)
    pixels = torch.rand(n, channels, 5, 6, generator=g)
    y = torch.softmax(torch.randn(n, 3, generator=g), 1)
    state = {"images": torch.randn(n, channels, 5, 6, generator=g), "order": torch.tensor([2, 0, 1])}
    recipe = {"name": "tiny", "outer": {"steps": 3, "lr_img": 0.1}, "experts": {"augment": ["flip"]}}
    stored = Images((pixels - 0.5) / 0.3, y)
    return Published(stored, ("ant", "bee/ü", "cow"), standardize(channels), student_lr, recipe, 7, state, pixels)


def standardize(channels=3):
    return Standardize(torch.full((channels, 1, 1), 0.5), torch.full((channels, 1, 1), 0.3))


def same(a: Published, b: Published):
    for field in dataclasses.fields(Published):
        one, two = getattr(a, field.name), getattr(b, field.name)
        if field.name == "state":
            assert_equal(one, two)
        elif field.name == "stored":
            assert type(one) is type(two) and one.about() == two.about()
            assert_equal(one.tensors(), two.tensors())
        elif field.name == "preprocess":
            assert one.kind == two.kind
            assert_equal(one.state(), two.state())
        elif field.name != "pictures":
            assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two, field.name


def assert_equal(one, two):
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    assert all(one[k].dtype == two[k].dtype for k in one)


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
    x = original.images
    shared = dataclasses.replace(original, shown=x, state={"images": x.requires_grad_()})
    write(shared, tmp_path)
    assert torch.equal(read(tmp_path).state["images"], x)


def test_what_the_state_shares_with_the_set_is_written_once(tmp_path):
    original = published(n=200)
    state = {"x": original.images, "y": original.labels, "order": torch.tensor([2, 0, 1])}
    write(dataclasses.replace(original, state=state), tmp_path)
    assert_equal(read(tmp_path).state, state)
    assert (tmp_path / FILE).stat().st_size < 2.2 * original.images.nbytes  # x and pixels


def test_a_set_without_its_preprocessing_is_not_published(tmp_path):
    with pytest.raises(DataError, match="lacks its preprocessing"):
        write(dataclasses.replace(published(), preprocess=None), tmp_path)
    assert not (tmp_path / FILE).exists()


def test_the_same_set_gives_the_same_bytes_in_another_process(tmp_path):
    write(published(), tmp_path / "a")
    write(read(tmp_path / "a"), tmp_path / "b")
    script = "import sys; from pathlib import Path; from distill.published import read, write\n"
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
    assert [row["label"] for row in rows] == original.labels.argmax(1).tolist()
    for name, expected in (("pixels", original.pixels), ("x", original.images)):
        column = torch.tensor([row[name] for row in rows], dtype=torch.float32)
        assert torch.equal(column.view(expected.shape), expected)
    assert torch.equal(torch.tensor([row["soft_label"] for row in rows], dtype=torch.float32), original.labels)
    for row, pixels in zip(rows, original.pixels, strict=True):
        image = np.array(Image.open(io.BytesIO(row["image"]["bytes"])))  # (h, w, c)
        assert image.shape == (5, 6, 3)
        assert np.abs(image / 255 - pixels.permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6


def test_the_picture_has_a_row_for_each_class_of_an_ordered_set():
    original = published(n=24)
    ordered = dataclasses.replace(original, stored=Images(original.images, torch.eye(3).repeat_interleave(8, 0)))
    mixed = dataclasses.replace(original, stored=Images(original.images, torch.eye(3).repeat(8, 1)))
    names = ["ant", "bee/ü", "cow"]
    by_class = grid(ordered.pixels, columns=8, labels=[name for name in names for _ in range(8)])
    assert files.picture(ordered).tobytes() == by_class.tobytes()
    assert files.picture(mixed).tobytes() == grid(ordered.pixels, labels=names * 8).tobytes()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    original = published()
    write(original, tmp_path)

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write(dataclasses.replace(original, step=8, shown=original.pixels / 2), tmp_path)
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
    y = torch.eye(3)[torch.arange(n) % 3]
    stored = Windows((large - 0.5) / 0.3, corners, (5, 6), y)
    pictures = {"synthetic": grid(large), "regions": grid(large, scale=2)}
    classes = ("ant", "bee", "cow")
    return Published(stored, classes, standardize(), None, {}, 7, {"x": stored.x}, large, {}, pictures)


def test_windows_of_a_larger_image_are_stored_as_it(tmp_path):
    original = cropped(n=600)
    paths = write(original, tmp_path)
    same(read(tmp_path), original)
    assert paths[-1].stat().st_size < original.images.nbytes
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
    assert np.array_equal(places, original.stored.corners.numpy())
    last = np.array(Image.open(io.BytesIO(table["image"][-1].as_py()["bytes"])))
    assert np.abs(last / 255 - original.pixels[-1].permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6


def test_a_reader_without_this_project_cuts_the_same_windows():
    from cluster.tracking import registered_model

    x, corners = cropped().stored.x.repeat(2, 1, 1, 1), torch.tensor([[1, 18, 39]])
    assert np.array_equal(registered_model.cut(x.numpy(), corners.numpy(), 5, 6), cut(x, corners, (5, 6)).numpy())


def test_windows_outside_of_their_image_are_refused(tmp_path):
    original = cropped()
    write(original, tmp_path)
    file = tmp_path / FILE
    about, held = {"stillhouse": safe_open(file, "pt").metadata()["stillhouse"]}, safetensors.torch.load_file(file)
    for corner in ([0, 20, 0], [1, 0, 0], [0, 0, -1]):
        corners = torch.cat([original.stored.corners[:-1], torch.tensor([corner])])
        with pytest.raises(DataError, match="windows are outside of the images"):
            write(dataclasses.replace(original, stored=dataclasses.replace(original.stored, corners=corners)), tmp_path)
        safetensors.torch.save_file({**held, "crops.corners": corners}, file, about)
        with pytest.raises(DataError, match=f"{file}: windows are outside of the images"):
            read(tmp_path)


def metadata(**changes):
    about = {"format": FORMAT, "version": 1, "recipe": {}, "classes": ["a", "b", "c"], "student_lr": None}
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
        (tensors(), metadata(version=4), "format version 4"),
        (tensors(), metadata(version=3, form="songs"), "form 'songs'"),
        (tensors(), metadata(version=3, form="images", preprocess="zca"), "incomplete"),
        (tensors(x=torch.zeros(2)), metadata(version=2), "missing"),
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


HOSTILE = {
    "images": [
        {"form": []}, {"form": {}}, {"classes": "abc"}, {"classes": [1, 2, 3]}, {"step": "x"}, {"recipe": []},
        {"same": {"x": "nowhere"}}, {"same": []}, {"preprocess": 5}, {"preprocess": "zca"}, {"student_lr": "much"},
    ],
    "windows": [{"crop": [5]}, {"crop": [-1, 5]}, {"crop": "ab"}, {"crop": [10**6, 10**6]}, {"crop": None}],
    "sampler": [
        {"sampler": {"module": 5}}, {"sampler": None}, {"sampler": {"per_class": "a"}}, {"sampler": {"per_class": 1.5}},
        {"sampler": {"per_class": -1}}, {"sampler": {"module": "support.small"}}, {"sampler": {"more": 1}},
        {"sampler": {"module": "os"}}, {"sampler": {"module": "distill.nets.nowhere"}},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "change"), [(form, change) for form, changes in HOSTILE.items() for change in changes], ids=str
)
def test_hostile_headers_are_refused_by_name(tmp_path, clouds, form, change):
    write({"images": published, "windows": cropped, "sampler": sampled}[form](), tmp_path)
    file = tmp_path / FILE
    about, held = json.loads(safe_open(file, "pt").metadata()["stillhouse"]), safetensors.torch.load_file(file)
    for key, value in change.items():
        about[key] = {**about[key], **value} if isinstance(value, dict) and isinstance(about.get(key), dict) else value
    safetensors.torch.save_file(held, file, {"stillhouse": json.dumps(about)})
    with pytest.raises(DataError) as caught:
        read(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("form", "name", "tensor"),
    [
        ("images", "x", torch.zeros(4)),
        ("images", "x", torch.zeros(4, 3, 5, 6, dtype=torch.int64)),
        ("images", "y", torch.zeros(4)),
        ("images", "pixels", torch.zeros(4, 3, 5)),
        ("images", "preprocess.mean", torch.zeros(2, 1, 1)),
        ("images", "preprocess.std", torch.zeros(3)),
        ("windows", "crops.corners", torch.zeros(60, 2, dtype=torch.int64)),
        ("windows", "crops.corners", torch.zeros(60, dtype=torch.int64)),
        ("windows", "crops.corners", torch.zeros(60, 3)),
        ("windows", "crops.x", torch.zeros(3, 20, 40)),
        ("windows", "y", torch.zeros(59, 3)),
    ],
)
def test_hostile_tensors_are_refused_by_name(tmp_path, form, name, tensor):
    write({"images": published, "windows": cropped}[form](), tmp_path)
    file = tmp_path / FILE
    about, held = safe_open(file, "pt").metadata(), safetensors.torch.load_file(file)
    safetensors.torch.save_file({**held, name: tensor}, file, {"stillhouse": about["stillhouse"]})
    with pytest.raises(DataError) as caught:
        read(file)
    assert str(file) in str(caught.value)


def test_a_whitening_that_is_no_triangle_is_refused():
    with pytest.raises(DataError, match="upper triangle"):
        preprocessing.restored("zca", {"mean": torch.zeros(3), "whiten": torch.zeros(5)})


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
        with pytest.raises(DataError, match=f"{FILE}: not a complete safetensors file"):
            read(tmp_path)


def test_shapes_that_do_not_fit_are_not_written(tmp_path):
    with pytest.raises(DataError, match="do not fit together"):
        write(dataclasses.replace(published(), classes=("ant", "bee")), tmp_path / "new")
    assert not (tmp_path / "new").exists()


# ---------------------------------------------------------------- earlier versions

GOLDEN = Path(__file__).parents[2] / "golden" / "sets"


def test_sets_of_the_first_version_are_read():
    old = read(GOLDEN / "v1-pixels.safetensors")
    assert old.images.shape == (6, 3, 8, 8) and old.labels.shape == (6, 3) and old.step == 0
    assert torch.equal(old.state["x"], old.images) and torch.equal(old.pixels, old.images.sigmoid())
    assert old.lr == pytest.approx(0.05) and old.preprocess is None
    recipe.parse(old.recipe, "a set of version 1")  # without the settings that are gone since


def test_sets_of_the_second_version_are_read():
    old = read(GOLDEN / "v2-poster.safetensors")
    assert isinstance(old.stored, Windows) and old.stored.x.shape == (1, 3, 8, 24) and len(old) == len(old.labels) == 6
    assert torch.equal(old.images, cut(old.stored.x, old.stored.corners, (8, 8)))
    assert torch.allclose(old.pixels, old.images.sigmoid(), atol=1e-6)
    recipe.parse(old.recipe, "a set of version 2")


@pytest.mark.parametrize("name", ["v3-pixels", "v3-poster"])
def test_sets_of_this_version_stay_readable(name):
    """Written by the first release of version 3, from the sets of versions 1 and 2."""
    old, now = (
        read(GOLDEN / f"{name.replace('v3-pixels', 'v1-pixels').replace('v3', 'v2')}.safetensors"),
        read(GOLDEN / f"{name}.safetensors"),
    )
    assert torch.equal(old.images, now.images) and torch.equal(old.labels, now.labels)
    assert_equal(old.state, now.state)
    assert now.preprocess.kind == "standardize" and torch.equal(now.preprocess.mean, standardize().mean)


# ---------------------------------------------------------------- in three lines


def test_a_set_is_trained_on_in_three_lines(tmp_path):
    from distill import load

    write(published(), tmp_path)
    for source in (tmp_path, tmp_path / FILE, str(tmp_path), f"file:{tmp_path}"):
        train = load(source)
        assert train.images.shape == (4, 3, 5, 6) and train.labels.shape == (4, 3) and train.lr == 0.1 + 0.2
        x, y = train.dataset()[2]
        assert torch.equal(x, train.images[2]) and torch.equal(y, train.labels[2])
        assert torch.allclose(train.preprocess(train.pixels), train.images, atol=1e-6)


@pytest.mark.parametrize("url, says", [("ftp://x/y", "fetches ftp"), ("nowhere.safetensors", "no distilled set")])
def test_a_place_that_cannot_be_loaded_is_named(url, says):
    from distill import load

    with pytest.raises(DataError, match=says):
        load(url)


# ---------------------------------------------------------------- samplers


def sampled(per_class=2):
    weights = {"mean": torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1)), "scale": torch.tensor(0.1)}
    sampler = Sampler(weights, "support.clouds", {"side": 4}, 3, per_class)
    return Published(sampler, ("ant", "bee", "cow"), standardize(1), 0.02, {}, 7, {"mean": weights["mean"]})


@pytest.fixture
def clouds(monkeypatch):
    monkeypatch.setattr(forms, "SAMPLER_MODULES", ("support.",))


def test_a_sampler_draws_the_same_set_again_and_fresh_images_by_seed(tmp_path, clouds):
    original = sampled()
    paths = write(original, tmp_path)
    again = read(tmp_path)
    same(again, original)
    assert torch.equal(again.images, original.images) and again.labels.argmax(1).tolist() == [0, 0, 1, 1, 2, 2]
    x, y = again.draw(5, seed=3)
    assert x.shape == (15, 1, 4, 4) and y.argmax(1).tolist() == [k for k in range(3) for _ in range(5)]
    assert torch.equal(again.draw(5, seed=3)[0], x) and not torch.equal(again.draw(5, seed=4)[0], x)
    still = again.draw(1, truncation=0.0)[0]
    assert torch.equal(still, original.stored.weights["mean"])
    assert "def draw(" in (tmp_path / "sampler.py").read_text() and paths[-1].name == FILE


def test_a_sampler_of_a_module_that_is_not_here_or_not_allowed_is_refused(tmp_path, clouds, monkeypatch):
    write(sampled(), tmp_path)
    monkeypatch.setattr(forms, "SAMPLER_MODULES", ("distill.nets.",))
    with pytest.raises(DataError, match=r"drawn by support\.clouds"):
        read(tmp_path)


def test_a_set_of_images_has_no_others_to_draw():
    with pytest.raises(DataError, match="no others to draw"):
        published().draw(3)
