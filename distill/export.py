"""The published forms of a distilled set: one folder that a person, a library or this project can read.

    synthetic.safetensors   everything, exact; what read() reads
    synthetic.parquet       one row per image in the Hugging Face image layout, with soft labels and exact pixels
    images.png              a picture of it
    recipe.json             the resolved recipe

The images of a JPEG or PNG have 256 levels; the exact values that were distilled are in the two other files.
"""

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from distill.errors import DataError
from distill.picture import grid, to_images

FORMAT = "stillhouse synthetic set"
VERSION = 1
FILE = "synthetic.safetensors"
FILES = ("recipe.json", "images.png", "synthetic.parquet", FILE)


@dataclass(frozen=True)
class Published:
    """A distilled set, ready to train on, with what made it."""

    x: Tensor
    """Images as networks see them, preprocessed, float32 (n, c, h, w)."""
    y: Tensor
    """Label probabilities, float32 (n, classes)."""
    pixels: Tensor
    """The images in [0, 1], preprocessing undone, float32 (n, c, h, w)."""
    classes: tuple[str, ...]
    student_lr: float | None
    """The learned rate for training on the set; None where none was learned."""
    recipe: dict
    """The resolved recipe as JSON values."""
    step: int
    """The outer step it was taken at."""
    state: dict[str, Tensor]
    """state_dict of the Synthetic it was taken from, which rebuilds it."""


def write(published: Published, folder: Path) -> list[Path]:
    """Write the four files into `folder`, made if need be, and return their paths.

    Each file appears whole or not at all, the one that read() needs last. The same set gives the same bytes.
    """
    _check(published, "set to publish")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = (json.dumps(published.recipe, indent=2, sort_keys=True) + "\n").encode()
    contents = (recipe, _png(picture(published)), _parquet(published), _safetensors(published))
    return [_replace(folder / name, content) for name, content in zip(FILES, contents, strict=True)]


def read(path: Path) -> Published:
    """The set in a file that write() made, or in the folder of one, equal bit for bit.

    Raises DataError where there is none, where it is not such a file, and for another format version.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"no distilled set at {file}: give the folder or the {FILE} that `stillhouse distill` wrote")
    try:
        with safe_open(file, framework="pt") as opened:
            about = _about(opened.metadata(), file)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    except SafetensorError as error:
        raise DataError(f"{file}: not a whole safetensors file ({error}): fetch or publish it again") from None
    return _assemble(tensors, about, file)


def picture(published: Published):
    """The grid of its images, each with the name of its most probable class; one row per class where rows allow it."""
    labels = published.y.argmax(1)
    count, per_class = len(labels), len(labels) // len(published.classes)
    in_order = labels.tolist() == [i // per_class for i in range(count)] if per_class else False
    columns = per_class if in_order and 4 <= per_class <= 20 else None
    return grid(published.pixels, columns=columns, labels=[published.classes[k] for k in labels])


# ---------------------------------------------------------------- safetensors


def _safetensors(published: Published) -> bytes:
    tensors = {"x": published.x, "y": published.y, "pixels": published.pixels}
    tensors |= {f"state.{name}": tensor for name, tensor in published.state.items()}
    about = {"format": FORMAT, "version": VERSION, "recipe": published.recipe, "classes": published.classes}
    about |= {"student_lr": published.student_lr, "step": published.step}
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # One metadata key only: safetensors writes several in an order that changes from process to process.
    return safetensors.torch.save(copies, {"stillhouse": json.dumps(about, sort_keys=True)})


def _about(metadata: dict[str, str] | None, file: Path) -> dict:
    try:
        about = json.loads((metadata or {}).get("stillhouse", "{}"))
    except json.JSONDecodeError:
        about = {}
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise DataError(f"{file}: a safetensors file, but not a distilled set; `stillhouse distill` writes {FILE}")
    if about.get("version") != VERSION:
        raise DataError(
            f"{file}: format version {about.get('version')}, this Stillhouse reads {VERSION}: use the one that wrote it"
        )
    return about


def _assemble(tensors: dict[str, Tensor], about: dict, file: Path) -> Published:
    state = {name.removeprefix("state."): tensors[name] for name in tensors if name.startswith("state.")}
    try:
        published = Published(
            x=tensors["x"],
            y=tensors["y"],
            pixels=tensors["pixels"],
            classes=tuple(about["classes"]),
            student_lr=about["student_lr"],
            recipe=about["recipe"],
            step=about["step"],
            state=state,
        )
    except KeyError as error:
        raise DataError(f"{file}: {error} is missing from it: fetch or publish it again") from None
    _check(published, str(file))
    return published


def _check(published: Published, where: str) -> None:
    shapes = {"x": published.x.shape, "pixels": published.pixels.shape, "y": published.y.shape}
    same = published.x.ndim == 4 and published.x.shape == published.pixels.shape
    if not same or published.y.shape != (len(published.x), len(published.classes)):
        said = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise DataError(f"{where}: {said} and {len(published.classes)} classes do not fit together: publish it again")


# ---------------------------------------------------------------- Parquet and PNG


def _parquet(published: Published) -> bytes:
    labels = published.y.argmax(1)
    images = [
        {"bytes": _png(image), "path": f"{i:05d}_{label}.png"}
        for i, (image, label) in enumerate(zip(to_images(published.pixels), labels.tolist(), strict=True))
    ]
    columns = {
        "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "label": pa.array(labels.cpu().numpy(), pa.int64()),
        "soft_label": pa.array(list(_floats(published.y)), pa.list_(pa.float32())),
        "pixels": _fixed(published.pixels),
        "x": _fixed(published.x),
    }
    metadata = {"huggingface": json.dumps({"info": {"features": _features(published)}})}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer, compression="zstd")
    return buffer.getvalue()


def _features(published: Published) -> dict:
    """Column types as the `datasets` library writes them into a Parquet schema."""
    floats = {"dtype": "float32", "_type": "Value"}
    image = {"feature": floats, "length": published.x[0].numel(), "_type": "Sequence"}
    return {
        "image": {"_type": "Image"},
        "label": {"names": list(published.classes), "_type": "ClassLabel"},
        "soft_label": {"feature": floats, "_type": "Sequence"},
        "pixels": image,
        "x": image,
    }


def _floats(x: Tensor) -> np.ndarray:
    return x.detach().cpu().float().flatten(1).numpy()  # (n, values per image)


def _fixed(x: Tensor) -> pa.FixedSizeListArray:
    """Each image's values in (c, h, w) order as one list of known length."""
    values = _floats(x)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), pa.float32()), values.shape[1])


def _png(image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
