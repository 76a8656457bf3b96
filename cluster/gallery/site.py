"""The whole site into one folder: pictures, pages, downloads. It appears at once, when it is complete.

build(names, Path("site"), store_url, tracking_uri, Options(real=4))
"""

import os
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from cluster.gallery import pages, sources
from cluster.gallery.assets import Assets, Embedded, Folder, Picture, mosaic, thumbnail, webp
from cluster.gallery.charts import bar
from cluster.gallery.class_pages import cards
from cluster.gallery.comparison import comparison
from cluster.gallery.result import Result
from cluster.gallery.result_page import result_page
from cluster.gallery.swatches import swatch_pages
from cluster.gallery.views import first_of_each, of_classes, shared
from distill.errors import StoreError
from distill.text import percent
from distill.textures import slugs

MARK = ".stillhouse-gallery"
"""A file in every site: a folder that has it may be replaced."""
SHOT_CLASSES = 10


@dataclass(frozen=True)
class Options:
    """What a site contains."""

    title: str = "Distilled datasets"
    real: int = 4
    """Real images beside each class."""
    steps: int = 40
    """Frames of a distillation, at most."""
    downloads: bool = True
    seeds: int = 8
    """Seeds of a generator that are drawn beforehand."""


def build(
    names: list[str], out: Path, store_url: str, tracking_uri: str, options: Options | None = None
) -> list[Result]:
    """Write the site of these results (sources.find) to the folder `out`, and return them.

    Raises DataError for an unknown name, StoreError if `out` cannot be written or is something else than a site.
    """
    options = options or Options()
    refuse_others(out)
    results = sources.find(names, store_url, tracking_uri, options.real, options.steps)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            site = Path(scratch) / "site"
            site.mkdir()
            write(results, site, options)
            if out.exists():
                out.rename(Path(scratch) / "replaced")
            os.replace(site, out)
    except OSError as error:
        raise StoreError(f"{out}: {error}; name a folder that can be written") from None
    return results


def refuse_others(out: Path) -> None:
    """Raise StoreError unless `out` is free, empty or a site of an earlier time."""
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file() or out.is_file():
        raise StoreError(f"{out} holds other files: name a new folder with --out")


def write(results: list[Result], site: Path, options: Options) -> None:
    """The files of the site, into an empty folder."""
    (site / MARK).write_text("A site by `stillhouse gallery`; it is replaced as a whole.\n")
    groups: dict[tuple, list[Result]] = defaultdict(list)
    for result in sorted(results, key=lambda r: (r.dataset, r.budget.ipc, r.method, r.name)):
        groups[result.dataset, result.published.classes].append(result)
    index, names = [], slugs([dataset for dataset, _ in groups])
    for name, ((dataset, _), members) in zip(names, groups.items(), strict=True):
        compare = f"compare-{name}.html" if len(members) > 1 else None
        made = {}
        for result in members:
            assets = Folder(site / result.slug)
            made[result.slug] = drawn = cards(result, assets, options.seeds)
            swatches = swatch_pages(result, assets)
            for file, text in swatches.pages.items():
                (site / result.slug / file).write_text(text, encoding="utf8")
            text = result_page(result, drawn, assets, options.downloads, swatches.urls,
                               "../index.html", f"../{compare}" if compare else None)  # fmt: skip
            (site / result.slug / "index.html").write_text(text, encoding="utf8")
        if compare:
            (site / compare).write_text(comparison(dataset, members, made), encoding="utf8")
        index.append({"name": dataset, "compare": compare, "cards": [_card(r, site) for r in members]})
    shown = [card for group in index for card in group["cards"]]
    text = pages.render(
        "index", "index.html", title=options.title, groups=index, count=len(results),
        methods=sorted({card["method"] for card in shown}),
        budgets=sorted({card["ipc"] for card in shown}, key=float),
    )  # fmt: skip
    (site / "index.html").write_text(text, encoding="utf8")


def alone(result: Result, options: Options) -> str:
    """The page of one result with every picture inside it, as an MLflow run shows it."""
    assets = Embedded()
    drawn = cards(result, assets, options.seeds)
    return result_page(result, drawn, assets, False, {}, None, None)


def _card(result: Result, site: Path) -> dict:
    """A result on the index."""
    score = result.score
    return {
        "title": result.title,
        "name": result.name,
        "method": result.method,
        "ipc": f"{result.budget.ipc:.3g}",
        "accuracy": percent(score) if score else "",
        "n": score["n"] if score else 0,
        "bar": bar(score, result.baselines, result.title),
        "url": f"{result.slug}/index.html",
        "alt": f"Distilled images of {result.title}",
        **_shot(result, Folder(site / result.slug, f"{result.slug}/")),
    }


def _shot(result: Result, assets: Assets) -> dict:
    """The picture of a result: one image of each of its first classes, or the image that they share."""
    stored, shown = result.published.stored, result.shown
    posters = shared(stored)
    images = shown[posters[:1]] if posters else first_of_each(of_classes(stored, shown), SHOT_CLASSES)
    small = thumbnail(images, 192 if not posters else 1024)
    picture = mosaic(small)
    url = assets.add("shot.webp", webp(picture, small.shape[3] <= 64))
    return {"shot": Picture(url, *picture.size, small.shape[3] <= 64), "full": False}
