"""Pictures of a poster: the whole of it pixel for pixel, regions and crosses where they should be, all patches."""

import pytest
import torch
from support import small
from support.small import plain

from distill import synthetic
from distill.picture import GAP, grid
from distill.synthetic import poster_view

NAMES = ("class 0", "class 1", "class 2")


def made(*overrides):
    context = small.context("unrolled", "synthetic={}", "synthetic.kind=poster", *overrides)
    return synthetic.build(context), context.data.preprocess


def pixels(picture):
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(picture.height, picture.width, 3)


def test_the_poster_comes_first_enlarged_by_whole_pixels():
    poster, preprocess = made()
    pictures = poster.pictures(preprocess, NAMES)
    assert list(pictures) == ["synthetic", "as-stored", "regions", "patches"]
    scale = 960 // 24
    shown = pixels(pictures["synthetic"])[GAP:-GAP, GAP:-GAP]
    assert shown.shape == (8 * scale, 24 * scale, 3)
    expected = (preprocess.to_pixels(poster.x.detach())[0] * 255).round().to(torch.uint8).permute(1, 2, 0)
    assert torch.equal(shown[::scale, ::scale], expected) and torch.equal(shown[scale - 1 :: scale, ::scale], expected)


def test_as_stored_is_grey_at_the_mean_and_spreads_by_deviations():
    poster, preprocess = made()
    with torch.no_grad():
        poster.x.copy_(torch.arange(-288, 288).view(poster.x.shape).float())
    stored = pixels(poster.pictures(preprocess, NAMES)["as-stored"])[GAP:-GAP, GAP:-GAP]
    x, scale = poster.x.detach()[0], 960 // 24
    expected = (((x - x.mean()) / (5 * x.std()) + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0)
    assert (stored[::scale, ::scale].float() - expected).abs().max() <= 1


def test_every_class_has_a_frame_and_every_patch_a_cross():
    poster, preprocess = made("synthetic.order=[2, 0, 1]")
    stored = poster.stored()
    whole = stored.shown(preprocess.to_pixels)
    shown = pixels(poster_view.regions(stored, whole, poster.order, NAMES))
    scale = 960 // 24
    for place, colour in enumerate(poster_view.COLOURS[:3]):
        left = GAP + place * 8 * scale
        frame = shown[GAP + 8 * scale - 1, left + 2 : left + 8 * scale - 2]
        assert (frame == torch.tensor(colour)).all()
    for _, top, left in stored.corners.tolist():
        assert (shown[GAP + (top + 4) * scale, GAP + (left + 4) * scale] == 255).all()


def test_class_names_are_written_where_their_classes_lie():
    poster, preprocess = made()
    stored = poster.stored()
    whole = stored.shown(preprocess.to_pixels)
    shown = [
        pixels(poster_view.regions(stored, whole, poster.order, ("", *NAMES[1:]))),
        pixels(poster_view.regions(stored, whole, poster.order, NAMES)),
    ]
    differ = (shown[0] != shown[1]).any(-1).nonzero()
    assert differ[:, 1].max() < GAP + 8 * 40 and differ[:, 0].max() < 40


def test_patches_are_a_sheet_laid_out_as_on_the_poster():
    poster, preprocess = made("synthetic.ipc=3", "synthetic.columns=3", "synthetic.rows=1", "synthetic.patches_y=2")
    x, y = plain(poster)
    labels = [NAMES[k] for k in y.argmax(1)]
    expected = grid(preprocess.to_pixels(x), columns=6, labels=labels)
    assert poster.pictures(preprocess, NAMES)["patches"].tobytes() == expected.tobytes()


@pytest.mark.parametrize("overrides", [(), ("synthetic.cyclic=true",)])
def test_one_poster_for_each_class_is_named(overrides):
    poster, preprocess = made("synthetic.posters=per-class", "synthetic.ipc=4", *overrides)
    pictures = poster.pictures(preprocess, NAMES)
    sources = poster.stored().shown(preprocess.to_pixels)
    expected = grid(sources, columns=3, scale=960 // (3 * 16), labels=list(NAMES))
    assert pictures["synthetic"].tobytes() == expected.tobytes()
    assert pictures["regions"].size == grid(sources, columns=3, scale=960 // (3 * 16)).size
