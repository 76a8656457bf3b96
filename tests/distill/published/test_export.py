"""Exported sets: what other programs read of them is the set, bit for bit where the format can hold it."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from support import small
from support.tori import canvases

from distill import synthetic
from distill.data.preprocess import Preprocess, Standardize
from distill.errors import DataError
from distill.evaluate import Judge
from distill.loop import Loop, Watcher
from distill.published import FILE, Images, Published, Sampler, Windows, read, write
from distill.published.export import FORMATS, export

KNOWN = {
    "budget_ipc": 1.5, "test_mean": 0.5, "test_std": 0.01, "test_n": 5, "network": "convnet", "protocol": "mtt",
}  # fmt: skip
NAMES = ("ant", 'bee: "ü"', "cow")


@pytest.fixture(autouse=True)
def clouds(monkeypatch):
    monkeypatch.setattr("distill.published.forms.SAMPLER_MODULES", ("support.", "distill.nets."))


def made(form: str) -> Published:
    """A set of three classes, images 6x7."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 3, 6, 7, generator=g) / 4, torch.softmax(3 * torch.randn(6, 3, generator=g), 1)
    corners = torch.tensor([[1, 7, 5], [0, 0, 2], [1, 3, 3]])
    large = torch.randn(2, 3, 9, 10, generator=g) / 4
    spread = torch.stack([torch.full((3,), -1.0), torch.full((3,), 2 / 255)])
    coarse = ((x + 1) * 255 / 2).round().clamp(0, 255) * spread[1, :, None, None] + spread[0, :, None, None]
    stored = {
        "images": Images(x, y),
        "8 bits": Images(coarse, y, spread),
        "windows": Windows(large, corners, (6, 7), y[:3]),
        "enlarged": Windows(large, corners, (3, 4), y[:3], enlarged=(6, 7)),
        "sampler": Sampler(
            {"mean": x[:3, :1, :, :6].contiguous(), "scale": torch.tensor(0.1)}, "support.clouds", {"side": 6}, 3, 2
        ),
    }[form]  # fmt: skip
    channels = 1 if form == "sampler" else 3
    preprocess = Standardize(torch.full((channels, 1, 1), 0.5), torch.full((channels, 1, 1), 0.25))
    recipe = {"name": "tiny", "dataset": {"kind": "npz", "path": "/home/somebody/cifar10"}}
    shown = stored.shown(preprocess.to_pixels)
    return Published(stored, NAMES, preprocess, 0.02, recipe, 7, {}, shown)


FORMS = ("images", "8 bits", "windows", "enlarged", "sampler")


@pytest.mark.parametrize("form", FORMS)
def test_parquet_has_the_exact_images_labels_and_what_training_needs(form, tmp_path):
    published = made(form)
    paths = export(published, "parquet", tmp_path, KNOWN)
    assert [path.name for path in paths] == ["synthetic.parquet", "README.md"]
    table = pq.read_table(paths[0])
    x = np.stack(table["x"].to_numpy()).reshape(len(published), *published.shape)
    assert np.array_equal(x, published.images.numpy())
    assert np.array_equal(np.stack(table["soft_label"].to_numpy()), published.labels.numpy())
    assert table["label"].to_pylist() == published.labels.argmax(1).tolist()
    for i, cell in enumerate(table["image"].to_pylist()):
        levels = np.asarray(Image.open(io.BytesIO(cell["bytes"]))).reshape(*published.shape[1:], -1)
        truth = published.pixels[i].permute(1, 2, 0).clamp(0, 1).numpy() * 255
        assert np.abs(levels - truth).max() <= 0.5 + 1e-3
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": list(NAMES), "_type": "ClassLabel"}
    assert set(features) == set(table.column_names)
    about = json.loads(table.schema.metadata[b"stillhouse"])
    assert (about["student_lr"], about["shape"]) == (0.02, list(published.shape))
    channels = published.shape[0]
    assert about["preprocess"] == {"kind": "standardize", "mean": [0.5] * channels, "std": [0.25] * channels}


@pytest.mark.parametrize("form", FORMS)
def test_safetensors_are_the_published_bytes(form, tmp_path):
    published = made(form)
    write(published, tmp_path / "published")
    (path,) = export(read(tmp_path / "published"), "safetensors", tmp_path / "out", {})
    assert path.name == FILE and path.read_bytes() == (tmp_path / "published" / FILE).read_bytes()


def test_what_is_published_or_exported_has_no_path_of_its_machine(tmp_path):
    write(made("images"), tmp_path / "published")
    for form in FORMATS:
        export(made("images"), form, tmp_path / form, KNOWN)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10 and not [path for path in files if b"somebody" in path.read_bytes()]
    assert read(tmp_path / "published").recipe["dataset"]["path"] == "cifar10"


@pytest.mark.parametrize("form", FORMS)
def test_png_files_lie_in_folders_of_their_class(form, tmp_path):
    published = made(form)
    *images, table = export(published, "png", tmp_path, {})
    lines = table.read_text().splitlines()
    assert lines[0] == "file,label,soft_label" and len(lines) == 1 + len(published) == 1 + len(images)
    for i, (path, line) in enumerate(zip(images, lines[1:], strict=True)):
        name, label, soft = line.split(",")
        assert tmp_path / name == path and int(label) == int(published.labels[i].argmax())
        assert np.allclose([float(v) for v in soft.split()], published.labels[i].numpy(), rtol=1e-5)
    assert len({path.parent for path in images}) == len({*published.labels.argmax(1).tolist()})


def test_the_card_has_method_budget_accuracy_and_a_licence_to_fill(tmp_path):
    context = small.context("distribution", "dataset.preprocess=standardize", digits=100)
    loop = Loop(context, Watcher())
    loop._judge()
    export(loop.published(), "hf", tmp_path, KNOWN)
    _, header, body = (tmp_path / "README.md").read_text(encoding="utf8").split("---\n", 2)
    header = yaml.safe_load(header)
    assert header["license"] == "other" and header["license_name"].startswith("FILL IN")
    facts = header["distillation"]
    assert (facts["method"], facts["kind"], facts["budget_images_per_class"]) == ("dm", "pixels", 1.5)
    assert (facts["accuracy"], facts["accuracy_std"], facts["networks"]) == (0.5, 0.01, 5)
    (files,) = header["configs"][0]["data_files"]
    assert files["split"] == "train" and (tmp_path / files["path"]).is_file()
    assert "50.0 ± 1.0 %" in body and "standardize" in body
    assert (tmp_path / "images.png").is_file() and read(tmp_path).recipe["name"] == "small"


def test_a_card_without_known_figures_says_none(tmp_path):
    _, card = export(made("windows"), "parquet", tmp_path, {})
    text = card.read_text(encoding="utf8")
    assert "accuracy" not in text and "budget" not in text and "`source`, `top`, `left`" in text


SETS = {
    "pixels": ["synthetic.labels.mode=learned"],
    "8 bits": ["synthetic.bits=8"],
    "poster": ["synthetic.kind=poster"],
    "canvas": ["synthetic.kind=canvas"],
    "generator": ["synthetic.kind=generator"],
}


@pytest.mark.parametrize("kind", SETS)
def test_an_exported_set_is_judged_as_the_one_it_was_made_of(kind, tmp_path):
    """From its file alone, as `stillhouse evaluate FILE` does it: the same networks, the same figure."""
    context = small.context("distribution", *SETS[kind], digits=200)
    loop = Loop(context, Watcher())
    loop._judge()
    published = loop.published()
    (path,) = export(published, "safetensors", tmp_path, {})
    exported = read(path)
    again = synthetic.restore(context, exported.state)
    scores = [Judge(context).score(s, exported.lr, context.data.test, 2, "test") for s in (loop.synthetic, again)]
    assert scores[0].as_dict() == scores[1].as_dict()
    assert torch.equal(exported.images, published.images) and torch.equal(exported.labels, published.labels)


def test_what_cannot_be_exported_is_refused_with_the_reason(tmp_path):
    published = made("images")
    old = Published(published.stored, NAMES, None, None, {}, 1, {}, published.shown)
    with pytest.raises(DataError, match="no preprocessing .*distill it again"):
        export(old, "safetensors", tmp_path, {})
    x = torch.rand(3, 2, 4, 4)
    two = Published(Images(x, torch.eye(3)), NAMES, Preprocess(), None, {}, 1, {}, x)
    for form in ("parquet", "png", "hf"):
        with pytest.raises(DataError, match="2 channels .* safetensors"):
            export(two, form, tmp_path, {})
    assert not any(tmp_path.iterdir())
    export(two, "safetensors", tmp_path, {})
    with pytest.raises(DataError, match="is there already"):
        export(two, "safetensors", tmp_path, {})


@pytest.mark.parametrize("form", FORMS)
def test_the_real_library_opens_it_as_images_and_class_labels(form, tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs `pip install datasets`, which Stillhouse does not")
    published = made(form)
    export(published, "hf", tmp_path / "hf", KNOWN)
    rows = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))["train"]
    assert isinstance(rows.features["image"], datasets.Image)
    assert rows.features["label"].names == list(NAMES)
    assert rows[0]["image"].size == (published.shape[2], published.shape[1])
    assert np.array_equal(np.float32(rows["x"]).reshape(published.images.shape), published.images.numpy())


def test_a_set_is_not_read_from_parquet_or_png(tmp_path):
    for form in ("parquet", "png"):
        path, *_ = export(made("images"), form, tmp_path / form, {})
        with pytest.raises(DataError, match=f"{path.name}: sets are read from {FILE}, which `stillhouse export"):
            read(path)


def test_canvases_of_a_support_set_are_exported_too(tmp_path):
    (path, _) = export(canvases(("a", "b")), "parquet", tmp_path, {})
    assert pq.read_metadata(path).num_rows == len(canvases(("a", "b")))
