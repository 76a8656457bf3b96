"""The font of captions: names of classes are drawn in any script that a font which ships with the project has.

font = caption_font(13, names)
font.getlength(drawable(names[0]))
"""

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont


def caption_font(size: int, texts: Iterable[str] = ()) -> ImageFont.FreeTypeFont:
    """Pillow's own font, which has ASCII alone; for other texts DejaVu Sans of matplotlib, in no higher lines."""
    plain = ImageFont.load_default(size)
    if all(text.isascii() for text in texts):
        return plain
    fits = (dejavu(smaller) for smaller in range(size, 0, -1))
    return next(font for font in fits if sum(font.getmetrics()) <= sum(plain.getmetrics()))


def drawable(text: str) -> str:
    """The text as one line of what can be drawn: codes (U+732B) for characters that no font here has, and for controls.

    What turns or joins letters (right-to-left overrides, joiners) is left out. Pillow refuses lines that end inside.
    """
    return "".join(map(_drawn, text)).strip()


@lru_cache(maxsize=4096)
def _drawn(character: str) -> str:
    kind = unicodedata.category(character)
    if kind == "Cf":
        return ""
    if character in "\t\n\r":
        return " "
    if kind[0] != "C" and kind not in ("Zl", "Zp") and (character.isascii() or _has(character)):
        return character
    return f" U+{ord(character):04X} "


@lru_cache
def dejavu(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans: Latin, Greek, Cyrillic, Hebrew, Arabic and more, but no Chinese, Japanese or Korean."""
    import matplotlib  # half a second, and most pictures do without

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _has(character: str) -> bool:
    """Whether DejaVu Sans draws it as anything but the box of a missing character."""
    box, drawn = (dejavu(12).getmask(c) for c in ("\U0010ffff", character))
    return (drawn.size, bytes(drawn)) != (box.size, bytes(box))
