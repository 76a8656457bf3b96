"""Small images as one picture: a grid with thin gaps, enlarged by whole pixels, each image's class name under it."""

import io
import math

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from distill.errors import DataError
from distill.fonts import caption_font, drawable

CELL = 96  # an enlarged image is about this many pixels wide ...
WIDEST = 1600  # ... unless the whole picture would then be wider than this
GAP = 8
BACKGROUND = (243, 243, 241)
TEXT = (64, 64, 60)


def grid(
    x: Tensor, columns: int | None = None, scale: int | None = None, labels: list[str] | None = None
) -> Image.Image:
    """An RGB picture of images x, (n, c, h, w) in [0, 1] (values outside are clamped), c = 1 or 3, row by row.

    `columns` defaults to tidy_columns(n); `scale` is the integer number of picture pixels per image pixel, by default
    such that an image is about 96 pixels wide. `labels` are n captions, cut to the image's width.
    Raises DataError for other shapes or another number of captions.
    """
    _check(x, labels)
    n, _, h, w = x.shape
    columns = columns or tidy_columns(n)
    scale = scale or max(1, round(min(CELL, WIDEST / columns - GAP) / w))
    letters = 13 if w * scale >= 64 else 10
    font = caption_font(letters, labels or ())
    caption = _caption(ImageFont.load_default(letters)) if labels else 0
    step_x, step_y = w * scale + GAP, h * scale + caption + GAP
    size = (columns * step_x + GAP, math.ceil(n / columns) * step_y + GAP)
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for i, image in enumerate(to_images(x)):
        left, top = GAP + i % columns * step_x, GAP + i // columns * step_y
        sheet.paste(image.resize((w * scale, h * scale), Image.Resampling.NEAREST), (left, top))
        if labels:
            text = shorten(labels[i], w * scale, font)
            draw.text((left + w * scale / 2, top + h * scale + 2), text, TEXT, font, anchor="ma")
    return sheet


def ungrid(picture: Image.Image, shape: tuple[int, int, int, int]) -> Tensor | None:
    """The images (n, c, h, w) in [0, 1], in 256 levels, of a picture that grid() made of images of this `shape`.

    None if the picture is none of n such images: of another size or resolution, or with something in its gaps.
    """
    n, c, h, w = shape
    for scale in range(1, max(1, picture.width // w) + 1):
        columns, rest = divmod(picture.width - GAP, w * scale + GAP)
        rows = math.ceil(n / columns) if columns else 0
        caption = (picture.height - GAP) / rows - h * scale - GAP if rows else -1
        if rest or columns > n or caption not in (0, *CAPTIONS):
            continue
        pixels = torch.from_numpy(np.array(picture.convert("RGB")))  # (H, W, 3)
        step_x, step_y = w * scale + GAP, h * scale + int(caption) + GAP
        gaps = torch.cat([pixels[:, :GAP].flatten(0, 1), pixels[:GAP].flatten(0, 1)])
        if (gaps != gaps.new_tensor(BACKGROUND)).any():
            continue
        corners = [(GAP + i // columns * step_y, GAP + i % columns * step_x) for i in range(n)]
        large = torch.stack([pixels[top : top + h * scale, left : left + w * scale] for top, left in corners])
        cells = large[:, ::scale, ::scale]  # (n, h, w, 3)
        if not torch.equal(large, cells.repeat_interleave(scale, 1).repeat_interleave(scale, 2)):
            continue  # images of another resolution
        return cells.permute(0, 3, 1, 2)[:, :c].float() / 255
    return None


def sheet(x: Tensor, y: Tensor, classes: tuple[str, ...]) -> Image.Image:
    """Images x as grid() shows them, each with the name of its most probable class by y (n, classes).

    Images ordered by class get one row per class if a row has room for them.
    """
    labels = y.argmax(1)
    count, per_class = len(labels), len(labels) // len(classes)
    in_order = labels.tolist() == [i // per_class for i in range(count)] if per_class else False
    columns = per_class if in_order and 4 <= per_class <= 20 else None
    return grid(x, columns=columns, labels=[classes[k] for k in labels])


def tidy_columns(n: int) -> int:
    """Columns for a full rectangle of n images, at least as wide as high, or nearly a square if there is none close."""
    root = math.ceil(math.sqrt(n))
    return next((columns for columns in range(root, 2 * root + 1) if n % columns == 0), root)


def to_images(x: Tensor) -> list[Image.Image]:
    """Each of the images x, (n, 1 or 3, h, w) in [0, 1], as an 8-bit grey or RGB image, to the nearest level."""
    levels = x.detach().cpu().float().clamp(0, 1).mul(255).round().to(torch.uint8)  # (n, c, h, w)
    arrays = levels[:, 0] if x.shape[1] == 1 else levels.permute(0, 2, 3, 1)
    return [Image.fromarray(array.contiguous().numpy()) for array in arrays]


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def shorten(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """`text`, cut with an ellipsis to fit into `width` pixels; codes stand for characters that no font has."""
    whole = len(text) <= width  # else it is too long at a pixel a letter, and need not be drawn to see that
    text = drawable(text[: max(0, width)])
    if whole and font.getlength(text) <= width:
        return text
    fits = (text[:length].rstrip() + "…" for length in range(len(text) - 1, 0, -1))
    return next((cut for cut in fits if font.getlength(cut) <= width), "")


def _caption(font: ImageFont.FreeTypeFont) -> int:
    """Height of a line of captions."""
    return sum(font.getmetrics()) + 2


CAPTIONS = tuple(_caption(ImageFont.load_default(size)) for size in (10, 13))


def _check(x: Tensor, labels: list[str] | None) -> None:
    if x.ndim != 4 or len(x) == 0 or x.shape[1] not in (1, 3):
        raise DataError(f"a picture needs at least one image of 1 or 3 channels, (n, c, h, w), got {tuple(x.shape)}")
    if labels is not None and len(labels) != len(x):
        raise DataError(f"{len(labels)} captions for {len(x)} images: give one for each")
