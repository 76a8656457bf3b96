"""`stillhouse data check` as a user types it, and a user's own folder of images distilled from four lines of TOML."""

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from support.cli import stillhouse
from support.pictures import write

from distill import recipe


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """The digits 0 to 2 as a folder of PNG and JPEG files of different sizes, one folder for each class."""
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STILLHOUSE_DATA", raising=False)
    monkeypatch.delenv("STILLHOUSE_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    bunch = load_digits()
    for i in range(150):
        label = int(bunch.target[i])
        if label < 3:
            side = 16 + i % 5
            image = Image.fromarray((bunch.images[i] * 15).astype(np.uint8)).resize((side, side + i % 3))
            file = tmp_path / "photos" / ("zero", "one", "two")[label] / f"{i}.{'png' if i % 2 else 'jpg'}"
            file.parent.mkdir(parents=True, exist_ok=True)
            image.save(file)
    return tmp_path / "photos"


FOUR_LINES = """\
name = "mine"
dataset.kind = "folder"
dataset.path = "photos"
dataset.size = 16
"""


def test_four_lines_and_a_folder_of_images(photos, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.toml").write_text(FOUR_LINES)
    assert stillhouse(monkeypatch, "distill", "mine.toml", "dataset.size=0", "--dry-run") == 2  # of many sizes
    assert "set dataset.size" in capsys.readouterr().err
    small = ("network.depth=1", "network.width=4", "threads=1")
    assert stillhouse(monkeypatch, "distill", "mine.toml", *small, "--dry-run") == 0
    said = capsys.readouterr().out
    assert f'dataset.path = "{photos}"' in said and "runs/mine-" in said


def test_check_prints_figures_draws_a_sheet_and_writes_json(photos, tmp_path, monkeypatch, capsys):
    code = stillhouse(monkeypatch, "data", "check", "photos", "size=16", "--sheet", "sheet.png", "--json", "out.json")
    said = capsys.readouterr().out
    assert code == 0, said
    assert "folder, 16x16, 1 channel, 3 classes" in said and "no faults" in said
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["faults"] == [] and figures["shape"] == [1, 16, 16] and figures["classes"] == ["one", "two", "zero"]
    assert sum(figures["train"]["per_class"]) == figures["train"]["images"] > 20
    assert Image.open(tmp_path / "sheet.png").width > 700


def test_check_lists_every_fault_and_exits_2(photos, tmp_path, monkeypatch, capsys):
    write(photos, {"one/broken.png": b"junk", "two/[red].jpg": b"\xff\xd8junk"})
    code = stillhouse(monkeypatch, "data", "check", "photos", "dataset.size=16", "--json", "out.json")
    said = capsys.readouterr().out
    assert code == 2
    assert "one/broken.png: not a PNG" in said and "two/[red].jpg: " in said and "2 faults" in said
    assert len(json.loads((tmp_path / "out.json").read_text())["faults"]) == 2
    assert Image.open(tmp_path / "contact-sheet.png").width > 700
    assert stillhouse(monkeypatch, "data", "check", "photos", "size=16", "--sheet", "no/such/folder/a.png") == 2


def test_check_of_recipes_and_of_a_kind_named(photos, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.toml").write_text(FOUR_LINES)
    assert stillhouse(monkeypatch, "data", "check", "mine.toml", "dataset.size=8") == 0
    assert "8x8" in capsys.readouterr().out
    assert stillhouse(monkeypatch, "data", "check", "digits") == 0
    assert "digits, 8x8, 1 channel, 10 classes" in capsys.readouterr().out
    assert stillhouse(monkeypatch, "data", "check", "photos", "kind=idx") == 2
    assert "0 files of the training images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere"], "no file or folder"),
        (["photos", "sise=3"], "dataset.sise"),
        (["mine.toml"], "no recipe 'mine.toml'"),
    ],
)
def test_what_cannot_be_checked(photos, monkeypatch, capsys, arguments, named):
    assert stillhouse(monkeypatch, "data", "check", *arguments) == 2
    assert named in capsys.readouterr().err


def test_absolute_paths_of_every_kind(photos):
    from cluster.cli import common

    made = common.absolute(recipe.parse({"name": "x", "dataset": {"kind": "folder", "path": "photos"}}, "x"))
    assert made.dataset.path == str(photos)
    far = recipe.parse({"name": "x", "dataset": {"kind": "parquet", "path": "s3://bucket/cifar"}}, "x")
    assert common.absolute(far) == far
