"""Captions in any script: letters where the font has them, codes elsewhere, and ASCII drawn as ever."""

import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from distill.fonts import caption_font, dejavu, drawable
from distill.picture import grid, sheet, shorten, ungrid


def drawn(text: str, font: ImageFont.FreeTypeFont) -> bytes:
    picture = Image.new("L", (200, 30))
    ImageDraw.Draw(picture).text((2, 2), text, 255, font)
    return picture.tobytes()


@pytest.mark.parametrize("name", ["Käfer", "łódź", "кот", "γάτα", "חתול"])
def test_each_letter_of_a_script_is_drawn_as_itself(name):
    font = caption_font(13, [name])
    box = drawn("\U0010ffff", font)
    pictures = [drawn(letter, font) for letter in dict.fromkeys(name)]
    assert box not in pictures and len(set(pictures)) == len(pictures)
    assert drawable(name) == name


def test_what_no_font_has_is_named_by_its_code():
    assert drawable("猫 cat") == "U+732B  cat"
    assert drawable("犬猫") == "U+72AC  U+732B"


@pytest.mark.parametrize(
    "name, line",
    [
        ("a\nb\tc", "a b c"),
        ("a\0b\x1b[1m", "a U+0000 b U+001B [1m"),
        ("a\x85b\u2029", "a U+0085 b U+2029"),  # Pillow's layout fails at lines that end inside
        ("\u202ecat\u200d\ufeff", "cat"),
        ("\ud800", "U+D800"),
    ],
)
def test_controls_are_named_and_what_turns_letters_is_left_out(name, line):
    assert drawable(name) == line
    grid(torch.zeros(1, 1, 8, 8), labels=[name])


def test_a_name_of_any_length_is_cut_at_once():
    """Ten letters fit; the others are not measured."""
    font = caption_font(13)
    measured = []

    class Counting:
        def getlength(self, text: str) -> float:
            measured.append(text)
            return font.getlength(text)

    assert shorten("x" * 100_000, 80, Counting()) == shorten("x" * 100, 80, font)
    assert max(map(len, measured)) <= 81


@pytest.mark.parametrize("size", [10, 12, 13, 14, 16])
def test_no_line_is_higher_and_ascii_is_drawn_as_before(size):
    plain = ImageFont.load_default(size)
    other = caption_font(size, ["cat", "кот"])
    assert sum(other.getmetrics()) <= sum(plain.getmetrics()) and other.path == dejavu(size).path
    assert drawn("cat", caption_font(size, ["cat", "dog"])) == drawn("cat", plain)


def test_pictures_with_such_names_are_read_back():
    x = torch.linspace(0, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)
    names = ("кот", "собака")
    picture = sheet(x, torch.eye(2), names)
    assert ungrid(picture, (2, 3, 8, 8)).sub(x).abs().max() < 1 / 255
    assert picture.tobytes() != grid(x, labels=["кот", "кот"]).tobytes()
