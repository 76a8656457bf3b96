"""`stillhouse sample`: a sheet, a table and an animation of a published generator; bad requests write nothing."""

import io
import json

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from support import small
from support.cli import stillhouse
from support.small import random_data

from cluster.jobs import evaluating
from cluster.jobs import fid as fids
from distill.data.preprocess import Standardize
from distill.evaluate.fid import fid
from distill.loop import Loop, Watcher
from distill.nets import stylegan2
from distill.published import Published, Sampler, write
from distill.synthetic.generator import MODULE


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A random generator of three classes, published in a folder."""
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    for name in ("STILLHOUSE_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    size = stylegan2.fit(1500, 8, 3, 3)
    net = stylegan2.Generator(size).initialise(torch.Generator().manual_seed(0))
    weights = {name: p.detach() for name, p in net.named_parameters()}
    sampler = Sampler(weights, MODULE, stylegan2.settings(size), 3, 2)
    preprocess = Standardize(torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25))
    made = Published(sampler, ("ant", "bee", "1"), preprocess, None, {}, 7, weights)
    assert random_data().shape == made.shape
    write(made, tmp_path / "generator")
    return str(tmp_path / "generator"), made


def test_images_of_the_named_classes_are_those_of_the_seed(published, tmp_path, monkeypatch, capsys):
    folder, made = published
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    asked = ("--class", "bee", "--class", "1", "--seed", "5", "--truncation", "0.7", "--n", "4")
    assert stillhouse(monkeypatch, "sample", folder, *asked, "--out", str(out), "--json", str(figures)) == 0
    table = pq.read_table(out / "samples.parquet")
    expected = made.stored.fresh(torch.tensor([1] * 4 + [2] * 4), torch.Generator().manual_seed(5), 0.7)
    assert torch.equal(torch.tensor(table["x"].to_pylist()).view(8, 3, 8, 8), expected)
    assert table["label"].to_pylist() == [1] * 4 + [2] * 4
    with Image.open(io.BytesIO(table["image"][0].as_py()["bytes"])) as image:
        assert image.size == (8, 8)
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 4 * 90 and sheet.height > 2 * 90
    assert json.loads(figures.read_text()) == {
        "images": 8, "seed": 5, "truncation": 0.7, "files": ["sheet.png", "samples.parquet"],
    }  # fmt: skip
    assert "8 images in" in capsys.readouterr().out


def test_an_animation_goes_from_one_seed_to_another_and_back(published, tmp_path, monkeypatch):
    folder, _ = published
    out = tmp_path / "out"
    way = ("--seed", "1", "--interpolate", "2", "--frames", "5", "--out", str(out))
    assert stillhouse(monkeypatch, "sample", folder, *way) == 0
    with Image.open(out / "between.webp") as film:
        assert film.n_frames == 8  # 5 there, and 3 back to the second


@pytest.mark.parametrize(
    "options, message",
    [
        (["--class", "wasp"], "no class 'wasp'; there are ant, bee, 1"),
        (["--n", "9000000"], "draw 1 to 1,000,000"),
        (["--interpolate", "1", "--frames", "1"], "give 2 to 600"),
    ],
)
def test_bad_requests_are_one_message_and_write_nothing(options, message, published, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert stillhouse(monkeypatch, "sample", published[0], *options, "--out", str(out)) == 2
    assert message in " ".join(capsys.readouterr().err.split()) and not out.exists()


def test_fid_is_measured_at_the_truncation_of_the_samples(tmp_path, published, monkeypatch, capsys):
    overrides = ("synthetic={}", "synthetic.kind=generator", "synthetic.ipc=5", "dataset.limit=200")
    context = small.context("distribution", *overrides, digits=200)
    loop = Loop(context, Watcher())
    loop._judge()
    write(loop.published(), tmp_path / "own")
    figures, out = tmp_path / "figures.json", str(tmp_path / "out")
    asked = ("--truncation", "0.5", "--n", "2", "--fid", "random", "--json", str(figures), "--out", out)
    assert stillhouse(monkeypatch, "sample", str(tmp_path / "own"), *asked) == 0
    expected = [fid(loop.published(), context, "random", truncation) for truncation in (0.5, 1.0)]
    assert json.loads(figures.read_text())["fid"] == expected[0].as_dict() != expected[1].as_dict()
    assert f"FID {expected[0].value:.4g}" in capsys.readouterr().out
    run, done = object(), []
    monkeypatch.setattr(evaluating, "run_of", lambda *where: run)
    monkeypatch.setattr(fids, "keep", lambda *kept: done.append(kept[1:]))
    monkeypatch.setattr(fids, "track", lambda *tracked: done.append(tracked[0]))
    for truncation in ("0.5", "1"):
        asked = ("--truncation", truncation, "--n", "2", "--fid", "random", "--out", out)
        assert stillhouse(monkeypatch, "sample", str(tmp_path / "own"), *asked) == 0
    assert done == [(expected[0], 0.5), (expected[1], 1.0), run], "only figures without truncation are the version's"
    for what, choice, message in ((published[0], "random", "no recipe"), (str(tmp_path / "own"), "x", "use experts,")):
        assert stillhouse(monkeypatch, "sample", what, "--fid", choice, "--out", str(tmp_path / "none")) == 2
        assert message in " ".join(capsys.readouterr().err.split()) and not (tmp_path / "none").exists()


def test_a_set_of_images_draws_none(tmp_path, published, monkeypatch, capsys):
    from support.small import published as images_of

    x = torch.rand(3, 3, 8, 8)
    write(images_of(x, torch.eye(3), x, ("a", "b", "c"), None, {}, 1, {}), tmp_path / "images")
    assert stillhouse(monkeypatch, "sample", str(tmp_path / "images"), "--out", str(tmp_path / "out")) == 2
    assert "draws no others" in " ".join(capsys.readouterr().err.split())
