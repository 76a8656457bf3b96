"""`stillhouse data check` as a user types it, and a user's own folder of images distilled from four lines of TOML."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from support.cli import stillhouse
from support.pictures import encoded, write

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
    assert stillhouse(monkeypatch, "distill", "mine.toml", *small, "--dry-run", "--full") == 0
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


def test_a_path_alone_is_a_recipe(photos, tmp_path, monkeypatch, capsys):
    (tmp_path / "photos").rename(tmp_path / "My Photos")
    small = ("dataset.size=16", "network.depth=1", "network.width=4", "threads=1", "--dry-run")
    assert stillhouse(monkeypatch, "distill", "My Photos", *small) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path}/My Photos: 3 classes of 16x16x1" in said and "runs/my-photos-" in said
    assert stillhouse(monkeypatch, "distill", "no-such-photos", *small) == 2
    assert "no recipe 'no-such-photos'" in capsys.readouterr().err


def test_notes_are_said_by_every_command(photos, tmp_path, monkeypatch, capfd):
    """What is passed over, by a command that reads the images and by one that finds them decoded."""
    write(photos, {"one/diagram.svg": "<svg/>", "stray.png": 3})
    small = ("dataset.size=16", "network.depth=1", "network.width=4", "threads=1", "--dry-run")
    check = ("data", "check", "photos", "size=16")
    for command in (("distill", "photos", *small), ("experts", "photos", *small), check):
        assert stillhouse(monkeypatch, *command) == 0
        captured = capfd.readouterr()
        said = " ".join((captured.out + captured.err).split())
        assert "1 files are not images by their names (1 .svg): one/diagram.svg" in said, command
        assert "1 images in photos/ itself, in no folder of a class, are left unread" in said


@pytest.mark.parametrize("encoding", ["utf8", "latin-1", "ascii"])
def test_names_that_are_not_text_on_any_terminal(tmp_path, encoding):
    """Classes and files whose names are not UTF-8, faults among them, in a process of its own."""
    root = os.fsencode(tmp_path) + b"/ph\xf6tos"
    for k, name in enumerate((b"caf\xe9", "t\u4e16".encode())):
        os.makedirs(root + b"/" + name)
        for i in range(4):
            with open(root + b"/" + name + b"/\xe9%d.png" % i, "wb") as file:
                file.write(encoded(100 * k + i))
    code = "import sys; from cluster import cli; sys.argv = ['stillhouse', 'data', 'check', *sys.argv[1:]]; cli.main()"
    env = {**os.environ, "PYTHONIOENCODING": encoding, "STILLHOUSE_HOME": str(tmp_path / "home")}
    files = ["--json", str(tmp_path / "out.json"), "--sheet", str(tmp_path / "s.png")]
    command = [sys.executable, "-c", code, root, *files]
    done = subprocess.run(command, env=env, capture_output=True)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["classes"][0] == "caf\\xe9"
    with open(root + b"/caf\xe9/\xff.png", "wb") as file:
        file.write(b"junk")
    done = subprocess.run(command, env=env, capture_output=True)
    assert done.returncode == 2 and b"caf\\xe9/\\xff.png: not a PNG" in done.stdout, done.stdout
    assert b"Traceback" not in done.stderr
