"""Pictures of a poster: as pixels, as stored, with its class regions and patch grid, and its patches."""

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from distill.fonts import caption_font
from distill.picture import grid, shorten, tidy_columns
from distill.published.forms import Windows

LONGEST = 960  # pixels of the longer side that a poster is enlarged to, by an integer factor
WIDEST_SHEET = 40  # patches side by side in the sheet of several posters
SPREAD = 2.5  # standard deviations of stored values between grey and black or white
COLOURS = [(214, 69, 65), (52, 120, 199), (60, 145, 75), (204, 132, 28), (128, 80, 165), (20, 140, 150)]


def pictures(
    stored: Windows, shown: Tensor, order: Tensor, counts: tuple[int, int], classes: tuple[str, ...]
) -> dict[str, Image.Image]:
    """Pictures by name, the poster itself first. `shown` (m, c, H, W) is the poster in [0, 1], `counts` the number of
    patches (down, across), `order` (m, rows, columns) the class grid."""
    names = list(classes) if len(stored.x) > 1 else None
    columns = counts[1] if len(stored.x) == 1 else counts[1] * min(counts[0], max(1, WIDEST_SHEET // counts[1]))
    as_stored = 0.5 + (stored.x - stored.x.mean()) / (2 * SPREAD * stored.x.std())
    return {
        "synthetic": sources(shown, names),
        "as-stored": sources(as_stored, names),
        "regions": regions(stored, shown, order, classes),
        "patches": grid(stored.pixels(shown), columns=columns, labels=[classes[k] for k in stored.y.argmax(1)]),
    }


def sources(pixels: Tensor, labels: list[str] | None = None) -> Image.Image:
    """Posters (m, c, H, W) in [0, 1], side by side if there are several."""
    columns = tidy_columns(len(pixels))
    return grid(pixels, columns=columns, scale=_scale(pixels, columns), labels=labels)


def regions(stored: Windows, shown: Tensor, order: Tensor, classes: tuple[str, ...]) -> Image.Image:
    """Posters side by side, each with its class regions, class names and a cross at the centre of each patch."""
    m, _, height, width = shown.shape
    columns = tidy_columns(m)
    scale = max(_scale(shown, columns), 2)
    plain = grid(shown, columns=columns, scale=scale)
    gap = (plain.width - columns * width * scale) // (columns + 1)
    draw = ImageDraw.Draw(plain)
    for i in range(m):
        left, top = gap + i % columns * (width * scale + gap), gap + i // columns * (height * scale + gap)
        _draw_patches(draw, stored, i, (left, top), scale)
        _draw_classes(draw, order[i], (left, top), (height, width), scale, classes)
    return plain


def _draw_patches(draw: ImageDraw.ImageDraw, stored: Windows, poster: int, at: tuple[int, int], scale: int) -> None:
    """Draw a small cross at the centre of each patch, and the outline of the first patch."""
    (h, w), (height, width) = stored.size, stored.x.shape[2:]
    arm = min(max(2, scale // 2), 5)
    mine = stored.corners[stored.corners[:, 0] == poster, 1:].tolist()
    for top, left in mine:
        x = at[0] + (left + w / 2) % width * scale
        y = at[1] + (top + h / 2) % height * scale
        for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            draw.line((x - arm, y, x + arm, y), colour, thick)
            draw.line((x, y - arm, x, y + arm), colour, thick)
    top, left = mine[0]
    corner = (at[0] + left * scale, at[1] + top * scale)
    draw.rectangle((*corner, corner[0] + w * scale - 1, corner[1] + h * scale - 1), outline=(255, 255, 255), width=2)


def _draw_classes(
    draw: ImageDraw.ImageDraw, order: Tensor, at: tuple[int, int], size, scale: int, classes: tuple[str, ...]
) -> None:
    """Draw a frame and the class name in each cell."""
    rows, columns = order.shape
    font = caption_font(13, classes)
    for row in range(rows):
        for column in range(columns):
            left, right = (at[0] + -(-k * size[1] // columns) * scale for k in (column, column + 1))  # as label_grid
            top, bottom = (at[1] + -(-k * size[0] // rows) * scale for k in (row, row + 1))
            colour = COLOURS[(row * 2 + column) % len(COLOURS)]
            draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=2)
            name = shorten(classes[int(order[row, column])], right - left - 8, font)
            box = draw.textbbox((left + 4, top + 3), name, font)
            draw.rectangle((box[0] - 2, box[1] - 2, box[2] + 2, box[3] + 2), fill=colour)
            draw.text((left + 4, top + 3), name, (255, 255, 255), font)


def _scale(pixels: Tensor, columns: int) -> int:
    return max(1, LONGEST // (columns * int(torch.tensor(pixels.shape[2:]).max())))
