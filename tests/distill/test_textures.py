"""Textures of a published set: names that are safe, sizes, files whose seam is closed, and the sheet."""

import re
from dataclasses import replace

import pytest
import torch
from PIL import Image
from support import small
from support.tori import canvases, torus

from distill import synthetic
from distill.data.decode import decode_picture
from distill.errors import DataError, StoreError
from distill.image_files import FORMATS
from distill.published import Published
from distill.seam import seam
from distill.textures import RESERVED, Texture, export, picture, pixels, sheet, slugs, textures, write

HOSTILE = [
    "../x", "..", ".", "", " ", "/etc/passwd", "C:\\temp\\x", "a/b", "a\\b", "a\0b", "a\nb", "con", "NUL", "Com1",
    "sheet", "forming", "蝶", "🍋", "Żółć", "ﬁg", "x" * 500, "-rf", "--out", "a b", "a-b", "A B", "a--b", "a-b-2",
    "x.png", "~", "$HOME", "texture-4", "\u202egnp.x", "%2e%2e%2f", "\ud800",
]  # fmt: skip


def test_names_become_safe_file_names():
    found = slugs(HOSTILE)
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", slug) and len(slug) <= 90 for slug in found)
    assert len({*found}) == len(HOSTILE) and not {*found} & RESERVED
    assert slugs(HOSTILE) == found


def test_plain_names_stay_readable():
    assert slugs(["lemon", "Granny Smith", "black & gold garden spider", "Café au lait"]) == [
        "lemon", "granny-smith", "black-gold-garden-spider", "cafe-au-lait",
    ]  # fmt: skip
    assert slugs(["a", "A", "a-2", "a", "蝶"]) == ["a", "a-3", "a-2", "a-4", "texture-5"]
    assert slugs(["aux", "aux-texture"]) == ["aux-texture", "aux-texture-2"]


def test_canvases_are_named_by_the_class_of_their_windows():
    found = textures(canvases(("lemon", "fig")))
    assert [(one.name, one.slug, one.wraps) for one in found] == [
        ("lemon", "lemon", (True, True)), ("fig", "fig", (True, True)),
    ]  # fmt: skip
    assert torch.equal(found[1].x, torus(48, 64, seed=1))
    several = textures(canvases(("lemon", "fig"), per_class=2))
    assert [one.slug for one in several] == ["lemon-1", "lemon-2", "fig-1", "fig-2"]


@pytest.mark.parametrize("pattern, size", [("p1", (16, 16)), ("half-drop", (16, 32)), ("mirror", (32, 32))])
def test_textures_of_a_canvas_are_one_period_of_its_plane(pattern, size):
    overrides = ("synthetic={}", "synthetic.kind=canvas", f"synthetic.pattern={pattern}", "synthetic.canvases=2")
    context = small.context("distribution", *overrides)
    canvas = synthetic.build(context)
    recipe = context.recipe.model_dump(mode="json")
    found = textures(Published(canvas.stored(), context.data.classes, context.data.preprocess, None, recipe, 0, {}))
    assert [one.name for one in found] == [f"class {k} {i}" for k in range(3) for i in (1, 2)]
    for one, plane in zip(found, canvas.plane(), strict=True):
        assert one.x.shape == (3, *size) and torch.allclose(one.x, plane.sigmoid(), atol=1e-5)


def test_file_names_do_not_depend_on_the_classes_asked_for():
    published = canvases(("A", "a", "b"))
    assert [one.slug for one in textures(published)] == ["a", "a-2", "b"]
    assert [one.slug for one in textures(published, ["b", "a"])] == ["a-2", "b"]
    with pytest.raises(DataError, match="no class 'c' in this set: there are A, a, b"):
        textures(published, ["a", "c"])


@pytest.mark.parametrize("wrap, shape", [("both", (144, 192)), ("x", (48, 192)), ("y", (144, 64))])
def test_copies_are_laid_out_along_the_axes_that_wrap(wrap, shape):
    one = textures(canvases(("lemon",), wrap=wrap))[0]
    laid = picture(one, tiles=3)
    assert laid.shape == (3, *shape)
    for top in range(0, shape[0], 48):
        for left in range(0, shape[1], 64):
            assert torch.equal(laid[:, top : top + 48, left : left + 64], one.x)


def test_sets_whose_images_do_not_tile_are_refused():
    x = torch.rand(2, 3, 8, 8)
    plain = small.published(x, torch.eye(2), x, ("a", "b"), None, {"synthetic": {"kind": "pixels"}}, 1, {})
    with pytest.raises(DataError, match="stored as images that do not tile"):
        textures(plain)
    published = canvases(("a", "b"))
    poster = replace(published.stored, wraps=(False, False))
    with pytest.raises(DataError, match="stored as windows that do not tile"):
        textures(replace(published, stored=poster))


def test_wang_tiles_are_laid_out_without_a_period_and_a_torus_is_not():
    published = canvases(("a", "b"), size=(64, 64))
    sheet = replace(published.stored, colours=2)
    one, _ = textures(replace(published, stored=sheet))
    picture = one.laid_out(100, 90, seed=1)
    assert picture.shape == (3, 100, 90) and torch.equal(picture, one.laid_out(100, 90, seed=1))
    assert not torch.equal(picture, one.laid_out(100, 90, seed=2))
    with pytest.raises(DataError, match="one tile, which repeats itself"):
        textures(published)[0].laid_out(100, 90)


def test_a_print_is_as_wide_as_asked_and_its_seam_is_closed():
    assert pixels(300, 300) == 3543 and pixels(25.4, 72) == 72
    one = Texture("t", "t", torus(96, 128), (True, True))
    for tiles, width, size in ((1, 501, (376, 501)), (3, 300, (225, 300)), (2, 1000, (750, 1000))):
        x = picture(one, tiles, width)
        assert x.shape == (3, *size) and seam(x).seamless and 0 <= x.min() and x.max() <= 1
    assert torch.equal(picture(one, 1, 128), one.x)


def test_sizes_that_no_file_should_have_are_refused():
    one = Texture("lemon", "lemon", torch.rand(3, 16, 512), (True, True))
    for tiles, width, message in (
        (1, 20000, "lemon: 20000x625 pixels are too many"),
        (100, None, "too many"),
        (10_000, 640, "5120000x160000 pixels are too many"),
        (1, 64, "too few"),
    ):
        with pytest.raises(DataError, match=message):
            picture(one, tiles, width)


def test_every_format_is_written_measured_and_seamless(tmp_path):
    one = textures(canvases(("../x",), size=(96, 128)))[0]
    written = export(one, tmp_path / "new" / "out", list(FORMATS), width=256, dpi=300)
    assert sorted(file.name for file in (tmp_path / "new" / "out").iterdir()) == [
        "x.16.png", "x.jpeg", "x.lossy.webp", "x.png", "x.webp",
    ]  # fmt: skip
    assert [file["format"] for file in written] == list(FORMATS) and all(file["seamless"] for file in written)
    for file in written:
        with open(file["file"], "rb") as opened:
            data = opened.read()
        assert (file["width"], file["height"], file["bytes"]) == (256, 192, len(data)) and file["class"] == "../x"
        assert seam(decode_picture(data)).as_dict() == file["seam"]


def test_only_axes_that_wrap_count_as_seamless(tmp_path):
    cut = torus(192, 192)[:, :150]  # a line from bottom to top
    assert not export(Texture("t", "t", cut, (True, True)), tmp_path)[0]["seamless"]
    assert export(Texture("t", "t", cut, (False, True)), tmp_path)[0]["seamless"]


def test_a_texture_of_one_colour_is_written_without_a_seam(tmp_path):
    file = export(Texture("t", "t", torch.full((1, 8, 8), 0.3), (True, True)), tmp_path, ["jpeg", "png"])[0]
    assert file["seam"] is None and not file["seamless"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="name a folder that can be written"):
        write(tmp_path / "file" / "x.png", b"")


@pytest.mark.parametrize("wrap", ["both", "x", "y"])
def test_the_sheet_shows_every_class_and_stays_small(wrap):
    few = sheet(textures(canvases(("lemon", "fig", "蝶"), wrap=wrap)))
    assert isinstance(few, Image.Image) and few.mode == "RGB"
    large = sheet(textures(canvases(("a", "b"), wrap=wrap, size=(512, 768))))
    assert large.width < 1100 and large.height < 700
