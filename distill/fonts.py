"""The font of captions: names of classes are drawn in any script that a font which ships with the project has.

font = caption_font(13, names)
font.getlength(drawable(names[0]))
"""

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
    """The text with its code (U+732B) for each character that no font here has, where a box would stand."""
    return "".join(c if c.isascii() or _has(c) else f" U+{ord(c):04X} " for c in text).strip()


@lru_cache
def dejavu(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans: Latin, Greek, Cyrillic, Hebrew, Arabic and more, but no Chinese, Japanese or Korean."""
    import matplotlib  # half a second, and most pictures do without

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


@lru_cache
def _has(character: str) -> bool:
    """Whether DejaVu Sans draws it as anything but the box of a missing character."""
    box, drawn = (dejavu(12).getmask(c) for c in ("\U0010ffff", character))
    return (drawn.size, bytes(drawn)) != (box.size, bytes(box))
