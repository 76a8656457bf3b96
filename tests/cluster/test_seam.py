"""`stillhouse seam`: anybody's picture, whatever its mode; one clear message for what cannot be measured."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.cli import stillhouse
from support.tori import torus

from distill import seam as seams
from distill.image_files import encode

KEYS = {"seam_x", "seam_y", "seam_gradient_x", "seam_gradient_y", "seamless", "x", "y", "width", "height"}


def levels(x: torch.Tensor) -> np.ndarray:
    """(h, w, 3) uint8 of x (3, h, w)."""
    return (x * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def measure(monkeypatch, file) -> dict:
    figures = file.with_suffix(".json")
    assert stillhouse(monkeypatch, "seam", str(file), "--json", str(figures)) == 0
    return json.loads(figures.read_text())


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16", "1"])
@pytest.mark.parametrize("cut", [192, 150])
def test_pictures_of_every_mode_are_measured(mode, cut, tmp_path, monkeypatch, capsys):
    x, file = torus(192, 192)[:, :, :cut], tmp_path / "fabric.png"
    if mode == "I;16":
        Image.fromarray((x[0] * 65535).round().numpy().astype(np.uint16)).save(file)
    else:
        Image.fromarray(levels(x)).convert(mode).save(file)
    found = measure(monkeypatch, file)
    assert found.keys() == KEYS and (found["width"], found["height"]) == (cut, 192)
    if mode != "1":  # its dither does not wrap
        assert (found["y"], found["x"]) == ("seamless", "seamless" if cut == 192 else "line")
    assert ("a line" in capsys.readouterr().out) == ("line" in (found["x"], found["y"]))


@pytest.mark.parametrize("kind", ["png", "png16", "webp", "webp-lossy", "jpeg"])
def test_what_is_exported_is_read(kind, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(encode(torus(96, 96), kind))
    assert measure(monkeypatch, file)["seamless"]


def test_16_bits_of_grey_are_all_used(tmp_path, monkeypatch):
    x = torus(64, 64, channels=1) * 0.002 + 0.5  # within one level of 8 bits
    (tmp_path / "faint.png").write_bytes(encode(x, "png16"))
    found = measure(monkeypatch, tmp_path / "faint.png")
    expected = seams.seam(x).as_dict()
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=0.02)


def test_transparent_parts_are_white(tmp_path, monkeypatch):
    """A pattern that is all in the alpha channel; dropped, one colour would be left."""
    alpha = torus(96, 96, channels=1)
    rgba = np.zeros((96, 96, 4), np.uint8)
    rgba[..., 3] = (alpha[0] * 255).round().numpy()
    Image.fromarray(rgba).save(tmp_path / "lace.png")
    found, expected = measure(monkeypatch, tmp_path / "lace.png"), seams.seam(alpha).as_dict()
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=0.02)


def test_a_photograph_is_measured_upright(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(levels(torus(192, 192)[:, :, :150])).save(tmp_path / "a.png", exif=exif)
    found = measure(monkeypatch, tmp_path / "a.png")
    assert (found["x"], found["y"], found["width"]) == ("seamless", "line", 192)


def test_what_cannot_be_measured_is_one_message_that_names_the_file(tmp_path, monkeypatch, capsys):
    def saved(name: str, size) -> str:
        Image.new("RGB", size, "red").save(tmp_path / name)
        return str(tmp_path / name)

    (tmp_path / "junk.png").write_bytes(b"junk")
    (tmp_path / "cut.png").write_bytes(encode(torus(64, 64), "png")[:500])
    (tmp_path / "empty.png").write_bytes(b"")
    cases = {
        saved("small.png", (3, 9)): "4x4 pixels or more, not 3x9",
        saved("even.png", (9, 9)): "one colour",
        saved("long.png", (20000, 4)): "more than 16384 pixels a side",
        str(tmp_path / "junk.png"): "not a PNG, JPEG, WebP, BMP, TIFF",
        str(tmp_path / "empty.png"): "not a PNG, JPEG, WebP, BMP, TIFF",
        str(tmp_path / "cut.png"): "damaged image",
        str(tmp_path / "none.png"): "No such file",
        str(tmp_path): "Is a directory",
    }
    for file, message in cases.items():
        assert stillhouse(monkeypatch, "seam", file) == 2, file
        error = capsys.readouterr().err
        assert error.startswith("error:") and file in error and message in error, error
