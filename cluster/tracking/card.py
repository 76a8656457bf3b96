"""The model card of a registered version and the page of a run: accuracy, picture, how to load it, as Markdown.

MLflow renders Markdown in descriptions, without styles, scripts and data: URIs. Pictures are therefore links to what
the server itself serves, relative to the page, so that they work under any address.
"""

import html
import re
from collections.abc import Mapping
from urllib.parse import quote

from PIL import Image

from distill.picture import BACKGROUND, to_images
from distill.published import Published
from distill.text import byte_size, percent

LONGEST = 4900
"""Letters of a description that MLflow keeps are 5,000."""
FACTS = {
    "protocol": "protocol", "network": "network", "selection": "step chosen on", "step": "outer step",
    "fid": "FID", "class_fid": "mean FID of classes", "fid_features": "features of FID", "student_lr": "learned rate",
    "preprocess": "preprocessing", "recipe": "recipe", "paper": "source", "seed": "seed",
    "run_id": "run", "parent_run": "started from the set of run", "data": "data (SHA-256)",
    "stillhouse_version": "Stillhouse", "git_commit": "commit",
    "stillhouse.sha256": "synthetic.safetensors (SHA-256)",
}  # fmt: skip
MOST_CLASSES = 20


STRIP = 40, 600
"""Height and most width, in pixels, of the picture that a run's page shows before `Show more` is clicked."""


def of_version(tags: Mapping[str, str], classes: tuple[str, ...], name: str, version: int) -> str:
    """The card of a registered version with these tags."""
    picture = f"model-versions/get-artifact?path={quote('artifacts/images.png', safe='')}&name={name}&version={version}"
    lines = [_headline(tags), *_whitened(tags), "", f"![the distilled images]({picture})", ""]
    lines += _loading(f"models:/{name}/{version}")
    return "\n".join([*lines, "", *_facts(tags, classes)])[:LONGEST]


def of_run(tags: Mapping[str, str], classes: tuple[str, ...], name: str, version: int, run: str) -> str:
    """The same for the page of the run with MLflow's id `run`, whose artifacts strip.png and images.png show the set.

    That page shows the first 100 pixels of a description and hides the others: here a strip, accuracy, how to load it.
    """
    strip, whole = (f"get-artifact?path={file}&run_uuid={run}" for file in ("strip.png", "images.png"))
    lines = [
        f"![some of the distilled images]({strip})",
        _headline(tags),
        f'`distill.load("models:/{name}/{version}")`',
    ]
    lines += ["", f"Registered as [{name} version {version}](#/models/{name}/versions/{version})", ""]
    lines += [f"![the distilled images]({whole})", "", *_loading(f"models:/{name}/{version}"), ""]
    return "\n".join([*lines, *_facts(tags, classes)])[:LONGEST]


def strip(published: Published) -> Image.Image:
    """Images of a set in one row, of each class one as long as there is room."""
    height, most = STRIP
    best = published.labels.argmax(1).tolist()
    h, w = published.shape[1:]
    width = max(1, round(height * w / h))
    shown = sorted({k: i for i, k in reversed([*enumerate(best)])}.values())[: max(1, (most + 4) // (width + 4))]
    row = Image.new("RGB", (len(shown) * (width + 4) - 4, height), BACKGROUND)
    scaling = Image.Resampling.NEAREST if h < height else Image.Resampling.LANCZOS
    for place, image in enumerate(to_images(published.pixels[shown])):
        row.paste(image.convert("RGB").resize((width, height), scaling), (place * (width + 4), 0))
    return row


def _whitened(tags: Mapping[str, str]) -> list[str]:
    """How to train on a set of whitened images, whose pictures are not what networks see."""
    if not tags.get("preprocess", "").startswith("zca"):
        return []
    return [
        "",
        "Its images are whitened: train on `train.images`, or on column `x` of `predict()`, not on `pixels`, which are "
        "for looking at; show the network test images as `train.preprocess(pixels)`, which whitens them alike.",
    ]


def _loading(url: str) -> list[str]:
    return [
        "```python", "from distill import load", f'train = load("{url}")', "train.images, train.labels, train.lr",
        "x = train.preprocess(real_pixels)   # what networks must be shown at test time", "```",
    ]  # fmt: skip


def _facts(tags: Mapping[str, str], classes: tuple[str, ...]) -> list[str]:
    lines = ["| | |", "| --- | --- |", f"| classes | {_classes(classes)} |"]
    return lines + [
        f"| {title} | {plain(tags[tag])} |" for tag, title in FACTS.items() if tags.get(tag, "None") != "None"
    ]


def _headline(tags: Mapping[str, str]) -> str:
    """Accuracy and budget; what a version lacks that was registered by other means is left out."""
    text = []
    if "test_mean" in tags:
        score = {"mean": float(tags["test_mean"]), "std": float(tags["test_std"])}
        text.append(f"**{percent(score)} %** on the test images (n={tags['test_n']})")
    if "budget_bits" in tags:
        ipc = f"{float(tags['budget_ipc']):.3g}"
        text.append(f"{ipc} image{'s' * (ipc != '1')} per class ({byte_size(int(tags['budget_bits']) / 8)})")
    return ", ".join(text)


def _classes(classes: tuple[str, ...]) -> str:
    names = ", ".join(plain(name) for name in classes[:MOST_CLASSES])
    return f"{len(classes)}: {names}" + (", ..." if len(classes) > MOST_CLASSES else "")


def plain(text: object) -> str:
    """Text of a user as such: neither Markdown nor HTML, on one line, at most 200 letters."""
    line = html.escape(" ".join(str(text)[:200].split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", line)
