"""A picture of a class order: the grid of names on colours that are similar for similar classes."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from distill.fonts import caption_font, drawable
from distill.order.colours import colours, ink
from distill.order.grid import Grid
from distill.picture import BACKGROUND, GAP, TEXT, shorten

WIDEST = 2000
CELL, NARROWEST = 120, 92  # largest and smallest side of a cell in pixels
LINES = 4  # of a name


def draw(grid: Grid, classes: Sequence[str], distances: np.ndarray, title: str) -> Image.Image:
    """An RGB picture of the grid with the names of its classes and a title above it."""
    rows, columns = len(grid), len(grid[0])
    side = max(NARROWEST, min(CELL, WIDEST // columns))
    font, heading = caption_font(14 if side >= 110 else 12, classes), ImageFont.load_default(16)
    top = GAP * 2 + sum(heading.getmetrics())
    width = max(columns * side + 2 * GAP, round(heading.getlength(title)) + 2 * GAP)
    sheet = Image.new("RGB", (width, rows * side + top + GAP), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, GAP), title, TEXT, heading)
    palette = colours(distances)
    for row, line in enumerate(grid):
        for column, k in enumerate(line):
            left, upper = GAP + column * side, top + row * side
            pen.rectangle((left, upper, left + side - 2, upper + side - 2), tuple(palette[k].tolist()))
            text = "\n".join(wrapped(classes[k], side - 10, font))
            middle = (left + side / 2 - 1, upper + side / 2 - 1)
            pen.multiline_text(middle, text, ink(palette[k]), font, anchor="mm", align="center")
    return sheet


def wrapped(name: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """The first of a name's synonyms in at most LINES lines of `width` pixels, words whole if they fit."""
    lines: list[str] = []
    for word in drawable(name).partition(",")[0].replace("_", " ").split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return [shorten(line, width, font) for line in lines[:LINES]]
