"""The model card of a registered version and the page of a run: accuracy, picture, how to load it, as Markdown.

MLflow renders Markdown in descriptions, without styles, scripts and data: URIs. Pictures are therefore links to what
the server itself serves, relative to the page, so that they work under any address.
"""

import html
import re
from collections.abc import Mapping
from urllib.parse import quote

from distill.text import byte_size, percent

LONGEST = 4900
"""Letters of a description that MLflow keeps are 5,000."""
FACTS = {
    "protocol": "protocol", "network": "network", "selection": "step chosen on", "step": "outer step",
    "student_lr": "learned rate", "preprocess": "preprocessing", "recipe": "recipe", "paper": "source", "seed": "seed",
    "run_id": "run", "data": "data (SHA-256)", "stillhouse_version": "Stillhouse", "git_commit": "commit",
    "stillhouse.sha256": "synthetic.safetensors (SHA-256)",
}  # fmt: skip
MOST_CLASSES = 20


def of_version(tags: Mapping[str, str], classes: tuple[str, ...], name: str, version: int) -> str:
    """The card of a registered version with these tags."""
    picture = f"model-versions/get-artifact?path={quote('artifacts/images.png', safe='')}&name={name}&version={version}"
    return _card(tags, classes, f"models:/{name}/{version}", picture)


def of_run(tags: Mapping[str, str], classes: tuple[str, ...], name: str, version: int, run: str, picture: str) -> str:
    """The same for the page of the run with MLflow's id `run`, whose artifact `picture` shows the set."""
    link = f"get-artifact?path={quote(picture, safe='')}&run_uuid={run}"
    model = f"[{name} version {version}](#/models/{name}/versions/{version})"
    return _card(tags, classes, f"models:/{name}/{version}", link, f"registered as {model}")


def _card(tags: Mapping[str, str], classes: tuple[str, ...], url: str, picture: str, more: str = "") -> str:
    lines = [_headline(tags), "", more, "", f"![the distilled images]({picture})", ""]
    lines += ["```python", "from distill import load", f'train = load("{url}")', "train.images, train.labels, train.lr"]
    lines += ["x = train.preprocess(real_pixels)   # test images must be shown so", "```", ""]
    lines += ["| | |", "| --- | --- |", f"| classes | {_classes(classes)} |"]
    lines += [f"| {title} | {plain(tags[tag])} |" for tag, title in FACTS.items() if tags.get(tag, "None") != "None"]
    return "\n".join(lines)[:LONGEST]


def _headline(tags: Mapping[str, str]) -> str:
    """Accuracy and budget; what a version lacks that was registered by other means is left out."""
    text = []
    if "test_mean" in tags:
        score = {"mean": float(tags["test_mean"]), "std": float(tags["test_std"])}
        text.append(f"**{percent(score)} %** on the test images, mean of {tags['test_n']} fresh networks")
    if "budget_bits" in tags:
        stored = byte_size(int(tags["budget_bits"]) / 8)
        text.append(f"stores {float(tags['budget_ipc']):.3g} images per class ({stored})")
    return "; ".join(text)


def _classes(classes: tuple[str, ...]) -> str:
    names = ", ".join(plain(name) for name in classes[:MOST_CLASSES])
    return f"{len(classes)}: {names}" + (", ..." if len(classes) > MOST_CLASSES else "")


def plain(text: object) -> str:
    """Text of a user as such: neither Markdown nor HTML, on one line, at most 200 letters."""
    line = html.escape(" ".join(str(text)[:200].split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", line)
