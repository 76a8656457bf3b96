"""The card of an exported set: README.md of a Hugging Face dataset, with a YAML header, and how to train on it."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from distill.published.forms import Sampler, Windows
from distill.published.published import Published
from distill.recipe import parse
from distill.text import percent

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
DESCRIBED = {
    "synthetic.safetensors": "the exact set: images, labels, learned rate, preprocessing, recipe",
    "images.png": "a picture of the set",
}


def dataset_card(published: Published, known: Mapping, files: Sequence[str], rows: str) -> str:
    """The text of the card. `rows` is the Parquet file among `files`; `known` is as for distill.published.export()."""
    recipe = published.recipe
    whole = "dataset" in recipe and "objective" in recipe
    method = parse(recipe, "of the set").objective.method if whole else ""
    name = _line(recipe.get("name", "distilled set"))
    kinds = {block: recipe.get(block, {}).get("kind", "") for block in ("synthetic", "objective", "dataset")}
    header = {
        "license": "other",
        "license_name": "FILL IN: images distilled from a dataset are derived from it, so its licence applies",
        "pretty_name": f"{name}, distilled",
        "task_categories": ["image-classification"],
        "tags": ["dataset-distillation", *filter(None, (method, kinds["synthetic"]))],
        "size_categories": [next((size for most, size in SIZES if len(published) < most), "n>1M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": rows}]}],
        "distillation": _facts(published, known, {**kinds, "method": method}),
    }
    yaml = "\n".join(f"{key}: {json.dumps(value)}" for key, value in header.items())  # JSON values are YAML
    return f"---\n{yaml}\n---\n\n# {name}, distilled\n\n{_body(published, known, files, rows)}"


def _facts(published: Published, known: Mapping, kinds: Mapping) -> dict:
    """Method, budget and accuracy in the header; what is not known is left out."""
    facts = {"method": kinds["method"], "kind": kinds["synthetic"], "dataset": kinds["dataset"]}
    facts |= {"classes": len(published.classes), "images": len(published), "preprocessing": published.preprocess.kind}
    if "budget_ipc" in known:
        facts["budget_images_per_class"] = float(known["budget_ipc"])
    if "test_mean" in known:
        facts |= {"accuracy": float(known["test_mean"]), "accuracy_std": float(known["test_std"])}
        facts |= {"networks": int(known["test_n"]), "network": known["network"], "protocol": known["protocol"]}
    return {key: value for key, value in facts.items() if value != ""}


def _body(published: Published, known: Mapping, files: Sequence[str], rows: str) -> str:
    c, h, w = published.shape
    intro = f"{len(published)} synthetic training images of {w}x{h} pixels, {len(published.classes)} classes"
    if "test_mean" in known:
        score = {"mean": float(known["test_mean"]), "std": float(known["test_std"])}
        intro += f"; networks that train on them alone reach **{percent(score)} %** on the real test images"
    text = [f"{intro}.", ""]
    if published.preprocess.kind.startswith("zca"):
        text += [
            "The images are whitened: train on column `x`, not on the PNGs, which are for looking at, and show the "
            "network test images as `distill.load(...).preprocess(pixels)`, which whitens them alike; the matrix is in "
            "`synthetic.safetensors`.",
            "",
        ]
    text += ["![the images](images.png)", ""] if "images.png" in files else []
    text += [
        "```python",
        "from datasets import load_dataset",
        f'rows = load_dataset("parquet", data_files="{rows}")["train"]',
    ]
    text += ['rows[0]["image"], rows[0]["label"], rows[0]["soft_label"]', "```", ""]
    text += [
        "| column | what |", "| --- | --- |", "| `image` | the image as PNG, 256 levels |",
        "| `label`, `soft_label` | the most probable class, and the probability of each: train on these |",
        f"| `x` | the exact image as networks see it, float32, ({c}, {h}, {w}): train on this |",
    ]  # fmt: skip
    if not isinstance(published.stored, Windows):
        text += ["| `pixels` | the image in [0, 1], float32 |"]
    else:
        text += ["| `source`, `top`, `left` | where the image is in the larger images that the set stores |"]
    text += ["", *_training(published), ""]
    text += [f"`{file}`: {DESCRIBED[PurePath(file).name]}" for file in files if PurePath(file).name in DESCRIBED]
    return "\n".join(text) + "\n"


def _training(published: Published) -> list[str]:
    kind = published.preprocess.kind
    lines = [
        f"Test images must be preprocessed as the set was (`{kind}`): the values are in the Parquet schema's metadata "
        "under `stillhouse`, a whitening matrix in synthetic.safetensors."
    ]
    if published.lr is not None:
        lines.append(f"Learned rate for SGD: {published.lr:.6g}.")
    if isinstance(published.stored, Sampler):
        lines.append("The images are one draw of a generator, which synthetic.safetensors has: it can draw others.")
    return lines


def _line(text: object) -> str:
    """A user's name as plain text on one line."""
    return re.sub(r"[^\w .,()+-]", " ", str(text))[:100].strip() or "distilled set"
