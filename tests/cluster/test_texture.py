"""`stillhouse texture`: files of a published set, its sheet and animation; bad options are refused before any work."""

import json
from types import SimpleNamespace

import pytest
from PIL import Image
from support.cli import stillhouse
from support.tori import canvases

from cluster.cli.texture import kinds_of, width_of
from cluster.jobs import evaluating
from cluster.tracking.run import Tracker
from distill.errors import RecipeError
from distill.published import write


@pytest.fixture
def published(tmp_path, monkeypatch) -> str:
    """A folder with canvases of two classes."""
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    for name in ("STILLHOUSE_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    write(canvases(("lemon", "../x"), size=(96, 128)), tmp_path / "published")
    return str(tmp_path / "published")


def test_files_a_sheet_and_figures_are_written(published, tmp_path, monkeypatch, capsys):
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    arguments = ("--out", str(out), "--format", "png,jpeg", "--sheet", "--json", str(figures))
    assert stillhouse(monkeypatch, "texture", published, *arguments) == 0
    assert sorted(file.name for file in out.iterdir()) == ["lemon.jpeg", "lemon.png", "sheet.png", "x.jpeg", "x.png"]
    found = json.loads(figures.read_text())
    assert [(file["class"], file["format"]) for file in found] == [
        ("lemon", "png"), ("lemon", "jpeg"), ("../x", "png"), ("../x", "jpeg"),
    ]  # fmt: skip
    assert all((file["width"], file["height"], file["seamless"]) == (384, 288, True) for file in found)
    assert "4 files in" in capsys.readouterr().out


def test_a_print_size_gives_one_tile_of_one_class_with_its_resolution(published, tmp_path, monkeypatch):
    out = tmp_path / "out"
    arguments = ("--out", str(out), "--class", "lemon", "--width-mm", "50.8", "--dpi", "100")
    assert stillhouse(monkeypatch, "texture", published, *arguments) == 0
    assert [file.name for file in out.iterdir()] == ["lemon.png"]
    with Image.open(out / "lemon.png") as image:
        assert image.size == (200, 150) and image.info["dpi"][0] == pytest.approx(100, abs=0.02)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--format", "gif"], "no 'gif'; there are png, png16, webp, webp-lossy, jpeg"),
        (["--size", "100", "--width-mm", "20"], "give one of them"),
        (["--class", "fig"], "no class 'fig'"),
        (["--size", "20000"], "too many"),
        (["--animate"], "is not a run of"),
    ],
)
def test_bad_options_are_one_message_and_write_nothing(options, message, published, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert stillhouse(monkeypatch, "texture", published, "--out", str(out), *options) == 2
    assert message in capsys.readouterr().err and not out.exists()


def test_widths():
    assert width_of(None, None, None) == (None, None) and width_of(640, None, 72.0) == (640, 72.0)
    assert width_of(None, 300.0, None) == (3543, 300.0) and width_of(None, 25.4, 72.0) == (72, 72.0)
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RecipeError, match="numbers above 0"):
            width_of(None, bad, None)
    with pytest.raises(RecipeError, match="name at least one"):
        kinds_of(" , ")


def test_the_animation_is_made_of_the_pictures_of_the_run(published, tmp_path, monkeypatch, capsys):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(evaluating, "run_of", lambda what, url, tracking: SimpleNamespace(run_id="fabric-1"))
    out = tmp_path / "out"
    arguments = ("texture", published, "--out", str(out), "--animate")
    tracker = Tracker.open(uri, "distill", "fabric", "fabric-1", {}, {})
    assert stillhouse(monkeypatch, *arguments) == 2
    assert "the run kept no 'synthetic' pictures" in capsys.readouterr().err and not out.exists()
    for step in range(3):
        tracker.picture(step, "synthetic", Image.new("RGB", (64, 48), (100 * step, 0, 0)))
    assert stillhouse(monkeypatch, *arguments) == 0
    with Image.open(out / "forming.webp") as image:
        assert image.n_frames == 3 and image.size == (64, 48)
