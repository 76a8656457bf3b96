"""The published forms of a distilled set: one folder that a person, a library or this project can read.

    synthetic.safetensors   everything, exact; what read() reads
    synthetic.parquet       one row per image in the Hugging Face image layout, with soft labels and exact pixels
    images.png              a picture of it; more of them where it has more to show
    recipe.json             the resolved recipe

The images of a JPEG or PNG have 256 levels; the exact values that were distilled are in the two other files. Images
that are cut out of larger ones (distill/crops.py) are stored as those and where they are cut, format version 2.
"""

import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from distill.crops import Crops
from distill.errors import DataError
from distill.picture import sheet, to_images

FORMAT = "stillhouse synthetic set"
VERSIONS = (1, 2)
"""2: the images are crops of larger ones, which are stored in their place."""
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
    data: dict[str, str] = field(default_factory=dict)
    """Digests of the raw data's training and test part (Raw.parts); sets of earlier versions have none."""
    crops: Crops | None = None
    """The larger images that x and pixels are cut out of, if they are."""
    pictures: dict[str, Image.Image] = field(default_factory=dict)
    """What Synthetic.pictures() gave; a set that was read has none."""


def write(published: Published, folder: Path) -> list[Path]:
    """Write the four files, and a PNG for each further picture, into `folder`, made if need be; return their paths.

    Each file appears whole or not at all, the one that read() needs last. The same set gives the same bytes.
    """
    _check(published, "set to publish")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = (json.dumps(published.recipe, indent=2, sort_keys=True) + "\n").encode()
    contents = (recipe, _png(picture(published)), _parquet(published), _safetensors(published))
    more = {f"{name}.png": _png(image) for name, image in published.pictures.items() if name != "synthetic"}
    named = more | dict(zip(FILES, contents, strict=True))
    return [_replace(folder / name, content) for name, content in named.items()]


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
    """The picture that shows it best; of a set that was read, its images with their classes."""
    made = published.pictures.get("synthetic")
    return made or sheet(published.pixels, published.y, published.classes)


# ---------------------------------------------------------------- safetensors


def _safetensors(published: Published) -> bytes:
    crops = published.crops
    if crops:
        tensors = {"crops.x": crops.x, "crops.pixels": crops.pixels, "crops.corners": crops.corners}
    else:
        tensors = {"x": published.x, "pixels": published.pixels}
    tensors |= {"y": published.y} | {f"state.{name}": tensor for name, tensor in published.state.items()}
    about = {"format": FORMAT, "version": 2 if crops else 1, "recipe": published.recipe, "classes": published.classes}
    about |= {"student_lr": published.student_lr, "step": published.step, "data": published.data}
    about |= {"crop": list(crops.size)} if crops else {}
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
    if about.get("version") not in VERSIONS:
        read_here = " and ".join(map(str, VERSIONS))
        raise DataError(
            f"{file}: format version {about.get('version')}, this Stillhouse reads {read_here}: "
            "use the one that wrote it"
        )
    return about


def _assemble(tensors: dict[str, Tensor], about: dict, file: Path) -> Published:
    state = {name.removeprefix("state."): tensors[name] for name in tensors if name.startswith("state.")}
    try:
        crops = _crops(tensors, about, file) if about["version"] == 2 else None
        y = tensors["y"]
        x, pixels = crops.windows() if crops else (tensors["x"], tensors["pixels"])
        published = Published(
            x=x,
            y=y,
            pixels=pixels,
            classes=tuple(about["classes"]),
            student_lr=about["student_lr"],
            recipe=about["recipe"],
            step=about["step"],
            state=state,
            data=about.get("data", {}),
            crops=crops,
        )
    except KeyError as error:
        raise DataError(f"{file}: {error} is missing from it: fetch or publish it again") from None
    _check(published, str(file))
    return published


def _crops(tensors: dict[str, Tensor], about: dict, file: Path) -> Crops:
    crops = Crops(tensors["crops.x"], tensors["crops.pixels"], tensors["crops.corners"], tuple(about["crop"]))
    m, _, height, width = crops.x.shape if crops.x.ndim == 4 else (0, 0, 0, 0)
    inside = (crops.corners >= 0) & (crops.corners < crops.corners.new_tensor([m, height, width]))
    if crops.x.shape != crops.pixels.shape or not inside.all():
        raise DataError(f"{file}: windows lie outside of the images that they are cut out of: publish it again")
    return crops


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
    }
    if published.crops:
        places = zip(("source", "top", "left"), published.crops.corners.T, strict=True)
        columns |= {name: pa.array(place.numpy(), pa.int64()) for name, place in places}
    else:
        columns |= {"pixels": _fixed(published.pixels), "x": _fixed(published.x)}
    metadata = {"huggingface": json.dumps({"info": {"features": _features(published)}})}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer, compression="zstd")
    return buffer.getvalue()


def _features(published: Published) -> dict:
    """Column types as the `datasets` library writes them into a Parquet schema."""
    floats = {"dtype": "float32", "_type": "Value"}
    image = {"feature": floats, "length": published.x[0].numel(), "_type": "Sequence"}
    place = {"dtype": "int64", "_type": "Value"}
    exact = dict.fromkeys(("source", "top", "left"), place) if published.crops else {"pixels": image, "x": image}
    return {
        "image": {"_type": "Image"},
        "label": {"names": list(published.classes), "_type": "ClassLabel"},
        "soft_label": {"feature": floats, "_type": "Sequence"},
        **exact,
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
