"""Results of one dataset side by side, class by class, at the same step or as published."""

from dataclasses import replace

from cluster.gallery import pages
from cluster.gallery.assets import Picture
from cluster.gallery.charts import bar
from cluster.gallery.class_pages import ClassCard
from cluster.gallery.result import Result
from distill.text import percent


def comparison(dataset: str, results: list[Result], cards: dict[str, list[ClassCard]]) -> str:
    """The HTML; `cards` are those of the results' own pages, by slug, whose pictures are shown again."""
    steps = sorted({step for r in results if r.frames.shown for step in r.frames.steps})
    own = [{"steps": r.frames.steps if r.frames.shown else ()} for r in results]
    columns = [
        {
            "title": r.title, "url": f"{r.slug}/index.html", "method": r.method, "ipc": f"{r.budget.ipc:.3g}",
            "accuracy": percent(r.score), "bar": bar(r.score, r.baselines, r.title),
        }
        for r in results
    ]  # fmt: skip
    rows = []
    for k, name in enumerate(results[0].published.classes):
        of_class = [(r.slug, cards[r.slug][k]) for r in results]
        real = next((moved(card.real, slug) for slug, card in of_class if card.real), None)
        cells = [replace(c, still=moved(c.still, slug), sprite=moved(c.sprite, slug)) for slug, c in of_class]
        rows.append({"name": name, "real": real, "cells": cells})
    return pages.render(
        "compare", "index.html", dataset=dataset, columns=columns, rows=rows, real=any(row["real"] for row in rows),
        data={"steps": steps, "results": own},
    )  # fmt: skip


def moved(picture: Picture | None, slug: str) -> Picture | None:
    """A picture of a result's page as a page beside its folder links to it."""
    return picture and replace(picture, url=f"{slug}/{picture.url}")
