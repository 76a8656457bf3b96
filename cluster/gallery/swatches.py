"""Textures on garments: pages for every texture that wraps round on both axes.

A page reads the pixels of its textures, which browsers forbid for files beside a page from `file:`. So they are inside
of the page, some to a page.
"""

import base64
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cluster.gallery import pages
from cluster.gallery.assets import Assets, webp
from cluster.gallery.result import Result
from cluster.gallery.views import of_classes, wraps
from distill.lanczos import resize
from distill.picture import to_images
from distill.textures import slugs

PER_PAGE = 40
SIDE = 512
"""A texture is at most so wide on a garment."""


@dataclass(frozen=True)
class Swatches:
    """Pages by file name, and for each class the URL that shows it."""

    pages: dict[str, str] = field(default_factory=dict)
    urls: dict[int, str] = field(default_factory=dict)


def swatch_pages(result: Result, assets: Assets) -> Swatches:
    """The pages of a result; none if its set is not of textures."""
    if not all(wraps(result.published.stored)):
        return Swatches()
    names, of_class = result.published.classes, of_classes(result.published.stored, result.shown)
    textures = [(k, images[0]) for k, images in enumerate(of_class) if len(images)]
    files = slugs(names)
    parts = [textures[i : i + PER_PAGE] for i in range(0, len(textures), PER_PAGE)]
    links = [
        {"url": "swatch.html" if i == 0 else f"swatch-{i + 1}.html", "label": f"{names[p[0][0]]} to {names[p[-1][0]]}"}
        for i, p in enumerate(parts)
    ]
    made, urls = {}, {}
    for link, part in zip(links, parts, strict=True):
        shown = []
        for k, x in part:
            thumb = assets.add(f"class-{k:04d}-swatch.webp", _encoded(x, 96))
            shown.append({"name": names[k], "class": k, "file": files[k], "url": _inside(x), "thumb": thumb})
        urls |= {k: f"{link['url']}#class-{k}" for k, _ in part}
        made[link["url"]] = pages.render(
            "swatch", "../index.html", r=result, data={"textures": shown}, pages=links, here=link["url"]
        )
    return Swatches(made, urls)


def _inside(x: Tensor) -> str:
    return f"data:image/webp;base64,{base64.b64encode(_encoded(x, SIDE)).decode()}"


def _encoded(x: Tensor, side: int) -> bytes:
    """A texture (c, H, W), at most `side` wide; shrinking keeps its seam closed."""
    scale = min(1.0, side / max(x.shape[1:]))
    if scale < 1:
        size = tuple(max(4, round(k * scale)) for k in x.shape[1:])
        x = resize(x.float(), size, (True, True)).clamp(0, 1)
    return webp(to_images(torch.as_tensor(x)[None])[0], False)
