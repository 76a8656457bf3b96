"""A published set in the formats that other programs read: Parquet, safetensors, PNG, a Hugging Face dataset folder.

    safetensors   synthetic.safetensors: every form, exact, with labels, learned rate and preprocessing
    parquet       synthetic.parquet and README.md: a row per training image, as PNG and as exact values
    png           a folder per class and labels.csv: 256 levels, so not exact
    hf            README.md, data/train-00000-of-00001.parquet, synthetic.safetensors, images.png: ready to upload

The set of a generator is one draw of its images, always the same; the generator itself is only in safetensors.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from distill.errors import DataError
from distill.picture import png, to_images
from distill.published.dataset_card import dataset_card
from distill.published.files import FILE, encoded, picture
from distill.published.published import Published
from distill.published.table import table
from distill.recipe import portable
from distill.textures import slugs

Files = Iterator[tuple[str, bytes]]
PARQUET, CARD = "synthetic.parquet", "README.md"
SHARD = "data/train-00000-of-00001.parquet"


def export(published: Published, form: str, folder: Path, known: dict) -> list[Path]:
    """Write a set in the format `form`, one of FORMATS, into `folder`, made if missing; returns the files' paths.

    `known` is what the run's result or the registered version says of its accuracy and budget; the card leaves out what
    it lacks. Raises DataError for a set that lacks its preprocessing or has images that are neither grey nor RGB, and
    if a file is there already.
    """
    if published.preprocess is None:
        raise DataError(
            "this set has no preprocessing (format versions 1 and 2 lack it), without which no network that trains on "
            "it can be tested: distill it again"
        )
    if form != "safetensors" and published.shape[0] not in (1, 3):
        raise DataError(f"images of {published.shape[0]} channels are neither grey nor RGB: export them as safetensors")
    published = replace(published, recipe=portable(published.recipe))
    files = list(FORMATS[form](published, known))
    paths = [Path(folder) / name for name, _ in files]
    if there := [str(path) for path in paths if path.exists()]:
        raise DataError(f"{there[0]} is there already: name another folder, or delete it")
    for path, (_, data) in zip(paths, files, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return paths


def png_files(published: Published) -> Files:
    """The training images, a folder per class, and labels.csv with every soft label. Same set, same bytes."""
    labels = published.labels.cpu()
    folders, best = slugs(published.classes), labels.argmax(1).tolist()
    names = [f"{folders[k]}/{i:05d}.png" for i, k in enumerate(best)]
    lines = ["file,label,soft_label"]
    for name, k, y in zip(names, best, labels.tolist(), strict=True):
        lines.append(f"{name},{k},{' '.join(f'{v:.6g}' for v in y)}")
    for name, image in zip(names, to_images(published.pixels), strict=True):
        yield name, png(image)
    yield "labels.csv", ("\n".join(lines) + "\n").encode()


def _safetensors(published: Published, known: dict) -> Files:
    yield FILE, encoded(published)


def _parquet(published: Published, known: dict) -> Files:
    yield PARQUET, table(published, whole=True)
    yield CARD, dataset_card(published, known, [PARQUET], PARQUET).encode()


def _png(published: Published, known: dict) -> Files:
    return png_files(published)


def _hf(published: Published, known: dict) -> Files:
    yield SHARD, table(published, whole=True)
    yield FILE, encoded(published)
    yield "images.png", png(picture(published))
    yield CARD, dataset_card(published, known, [SHARD, FILE, "images.png"], SHARD).encode()


FORMATS: dict[str, Callable[[Published, dict], Files]] = {
    "parquet": _parquet,
    "safetensors": _safetensors,
    "png": _png,
    "hf": _hf,
}
