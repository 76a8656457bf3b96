"""The page of one result."""

import json
from dataclasses import asdict, replace
from pathlib import PurePosixPath

from cluster.gallery import charts, pages
from cluster.gallery.assets import Assets, sprite, still, webp
from cluster.gallery.class_pages import TRUNCATIONS, ClassCard
from cluster.gallery.downloads import downloads
from cluster.gallery.posters import overlay
from cluster.gallery.result import Result
from cluster.gallery.views import shared, wraps
from distill.published import Sampler, Windows
from distill.recipe import dotted

PICTURE_SIDE = 1024


def result_page(
    result: Result, cards: list[ClassCard], assets: Assets, with_downloads: bool, swatches: dict[int, str],
    home: str | None, compare: str | None,
) -> str:  # fmt: skip
    """The HTML of a result whose cards are drawn; `swatches` are the pages that show a class on a garment."""
    published = result.published
    stored, classes = published.stored, len(published.classes)
    cards = [replace(card, swatch=swatches.get(card.index)) for card in cards]
    tiled, steps = wraps(stored), result.frames.steps
    pictures = [_picture(assets, f"forming-{i:03d}", image) for i, image in enumerate(result.frames.pictures)]
    best = max((i for i, step in enumerate(steps) if step <= published.step), default=0)
    posters = _posters(result, assets)
    samples = None
    if isinstance(stored, Sampler):
        samples = {"seeds": cards[0].cells.count // len(TRUNCATIONS), "truncations": TRUNCATIONS}
    data = {
        "classes": published.classes, "steps": steps, "wraps": tiled, "samples": samples, "pictures": pictures,
        "posters": [p["about"] for p in posters], "pixelated": min(published.shape[1:]) <= 64,
        "colours": stored.colours if isinstance(stored, Windows) else 0,
    }  # fmt: skip
    return pages.render(
        "result", home, r=result, classes=cards, data=data, wraps=any(tiled), pictures=pictures, posters=posters,
        compare=compare, swatch=next(iter(swatches.values()), None), best=best,
        best_text=f"published, step {published.step}", many=any(c.still and c.still.count > 2 for c in cards),
        paper=published.recipe.get("paper", ""), heading=_heading(result), counts=_counts(result),
        bits=f"{result.budget.bits:,}", bits_per_class=f"{result.budget.bits / classes:,.0f}",
        curves=_curves(result),
        files=downloads(result, assets) if with_downloads and result.files else [],
        recipe=shown_recipe(published.recipe),
    )  # fmt: skip


def shown_recipe(recipe: dict) -> str:
    """The settings, one a line, by dotted name; of paths on the machine that made the set only the last part."""
    lines = []
    for name, value in dotted(recipe).items():
        value = PurePosixPath(value).name if isinstance(value, str) and value.startswith("/") else value
        lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines)


def _curves(result: Result) -> list[dict]:
    """The curves with their names; deviations are left out."""
    marked = result.published.step
    return [
        {"name": charts.title_of(name), "span": charts.span(points), "svg": charts.curve(name, points, marked)}
        for name, points in result.curves.items()
        if not name.endswith("_std")
    ]


def _heading(result: Result) -> str:
    stored = result.published.stored
    if shared(stored):
        return "One image for all classes" if len(shared(stored)) == 1 else f"{len(shared(stored))} images"
    return "The textures" if any(wraps(stored)) else "The images"


def _counts(result: Result) -> str:
    stored, (_, h, w) = result.published.stored, result.published.shape
    if isinstance(stored, Windows):
        size = f"{stored.x.shape[3]} × {stored.x.shape[2]}"
        images = f"an image of {size}" if len(stored.x) == 1 else f"{len(stored.x)} images of {size}"
        return f"{len(stored)} windows of {w} × {h} pixels in {images}"
    return f"{len(stored)} training images of {w} × {h} pixels"


def _posters(result: Result, assets: Assets) -> list[dict]:
    """Images that several classes share, with their overlays."""
    stored, shown, posters = result.published.stored, result.shown, []
    for i in shared(stored):
        about = overlay(stored, i)
        h, w = about.patch
        dots = "".join(f"M{left + w / 2:g} {top + h / 2:g}h0" for top, left, _ in about.patches)
        frames = [x[i : i + 1] for x in result.frames.shown]
        posters.append({
            "about": asdict(about), "dots": dots, "font": _font(about),
            "still": still(assets, f"poster-{i}", shown[i : i + 1]),
            "sprite": sprite(assets, f"poster-{i}-steps", frames) if frames else None,
        })  # fmt: skip
    return posters


def _font(about) -> float:
    """A size in pixels of the image at which the names fit into their regions, more or less."""
    room = (about.width * about.height / max(1, len(about.names))) ** 0.5
    return round(max(min(room / 6, about.height / 8), about.width / 90), 2)


def _picture(assets: Assets, name: str, image) -> str:
    image = image.copy()
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    return assets.add(f"{name}.webp", webp(image, False))
