"""Pictures: every image lies where it should, pixel for pixel, and captions stay inside their column."""

import pytest
import torch
from PIL import ImageFont

from distill.errors import DataError
from distill.picture import BACKGROUND, GAP, grid, shorten, tidy_columns, to_images


def pixels(picture):
    """(height, width, 3) of an RGB picture."""
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(picture.height, picture.width, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_enlarged_by_whole_pixels_at_its_place(channels):
    x = torch.rand(5, channels, 4, 3, generator=torch.Generator().manual_seed(0))
    sheet = pixels(grid(x, columns=3, scale=7))
    assert sheet.shape == (2 * (4 * 7 + GAP) + GAP, 3 * (3 * 7 + GAP) + GAP, 3)
    covered = torch.zeros(sheet.shape[:2], dtype=torch.bool)
    for i in range(5):
        top, left = GAP + i // 3 * (4 * 7 + GAP), GAP + i % 3 * (3 * 7 + GAP)
        for row in range(4):
            for column in range(3):
                block = (slice(top + row * 7, top + row * 7 + 7), slice(left + column * 7, left + column * 7 + 7))
                expected = (x[i, :, row, column] * 255).round().to(torch.uint8).expand(3)
                assert (sheet[block] == expected).all()
                covered[block] = True
    assert (sheet[~covered] == torch.tensor(BACKGROUND)).all()


def test_values_outside_the_range_are_clamped():
    x = torch.tensor([-1.0, 2.0]).view(2, 1, 1, 1)
    assert [image.getpixel((0, 0)) for image in to_images(x)] == [0, 255]


@pytest.mark.parametrize("scale", [1, 12])
def test_captions_stay_under_their_own_image(scale):
    x = torch.ones(3, 1, 32, 32)
    names = ["w" * 60, "", "i"]
    plain, captioned = pixels(grid(x, 3, scale)), pixels(grid(x, 3, scale, names))
    strip = captioned[plain.shape[0] - GAP : -GAP]  # below the images
    written = (strip != torch.tensor(BACKGROUND)).any(-1).any(0)  # by column of the picture
    step = 32 * scale + GAP
    inside = [written[GAP + i * step : GAP + i * step + 32 * scale] for i in range(3)]
    assert inside[0].any() and not inside[1].any() and inside[2].any()
    assert written.sum() == inside[0].sum() + inside[2].sum()
    assert torch.equal(captioned[: plain.shape[0] - GAP], plain[:-GAP])


def test_long_names_end_in_an_ellipsis_and_fit():
    font = ImageFont.load_default(13)
    name = "automobiles"
    cut = shorten(name, 60, font)
    kept = len(cut) - 1
    assert cut == name[:kept] + "…"
    assert font.getlength(cut) <= 60 < font.getlength(name[: kept + 1] + "…")
    assert shorten("cat", 60, font) == "cat"
    assert shorten("cat", 2, font) == ""


@pytest.mark.parametrize("n, columns", [(1, 1), (2, 2), (7, 3), (10, 5), (13, 4), (50, 10), (100, 10), (500, 25)])
def test_columns_make_a_rectangle_near_a_square(n, columns):
    assert tidy_columns(n) == columns


def test_the_default_scale_shows_small_images_and_bounds_large_sheets():
    assert grid(torch.zeros(10, 1, 8, 8)).size == (5 * (96 + GAP) + GAP, 2 * (96 + GAP) + GAP)
    assert grid(torch.zeros(1000, 1, 32, 32)).width <= 2000
    assert grid(torch.zeros(1, 1, 224, 224)).width == 224 + 2 * GAP


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 4, 4, 4), (3, 4, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(DataError, match="1 or 3 channels"):
        grid(torch.zeros(shape))


def test_a_caption_for_each_image():
    with pytest.raises(DataError, match="2 captions for 3 images"):
        grid(torch.zeros(3, 1, 4, 4), labels=["a", "b"])
