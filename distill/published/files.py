"""The files of a published set: one folder that a person, a library or this project can read.

    synthetic.safetensors   everything, exact: what read() reads, and what a network can be trained from alone
    synthetic.parquet       one row per image in the Hugging Face image layout, with soft labels and exact pixels
    images.png              a picture of it; more of them where it has more to show
    recipe.json             the resolved recipe
    sampler.py              of a Sampler: the code that draws its images, for those who have no Stillhouse

Format version 3 names the form of the set (distill/published/forms.py) and holds its preprocessing. Versions 1 (images)
and 2 (windows), which lack the preprocessing, are read too. docs/formats.md lists every key.
"""

import json
import os
from pathlib import Path

import safetensors.torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, equal

from distill.data import preprocess
from distill.errors import DataError
from distill.picture import png, sheet
from distill.published.forms import FORMS
from distill.published.published import Published
from distill.published.table import table

FORMAT = "stillhouse synthetic set"
VERSION = 3
FORM_OF_VERSION = {1: "images", 2: "windows"}
"""Of the versions that do not name it."""
FILE = "synthetic.safetensors"
FILES = ("recipe.json", "images.png", "synthetic.parquet", FILE)


def write(published: Published, folder: Path) -> list[Path]:
    """Write the four files, and a PNG for each further picture, into `folder`, made if need be; return their paths.

    Each file appears whole or not at all, the one that read() needs last. The same set gives the same bytes. Raises
    DataError for a set that lacks its preprocessing or whose parts do not fit together.
    """
    published.check("set to publish")
    if published.preprocess is None:
        raise DataError("set to publish: it lacks its preprocessing, without which nobody can train on it")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = (json.dumps(published.recipe, indent=2, sort_keys=True) + "\n").encode()
    contents = (recipe, png(picture(published)), table(published), _safetensors(published))
    more = {f"{name}.png": png(image) for name, image in published.pictures.items() if name != "synthetic"}
    if code := published.stored.about().get("code"):
        more["sampler.py"] = code.encode()
    named = more | dict(zip(FILES, contents, strict=True))
    return [_replace(folder / name, content) for name, content in named.items()]


def read(path: Path) -> Published:
    """The set in a file that write() made, or in the folder of one, equal bit for bit.

    Raises DataError if there is none, if it is not such a file, and for another format version.
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
    try:
        published = _assemble(tensors, about)
    except KeyError as error:
        raise DataError(f"{file}: {error} is missing from it: fetch or publish it again") from None
    except (TypeError, AttributeError, DataError) as error:
        raise DataError(f"{file}: {error}: fetch or publish it again") from None
    published.check(str(file))
    return published


def picture(published: Published) -> Image.Image:
    """The picture that shows it best; of a set that was read, its images with their classes."""
    best = published.pictures.get("synthetic")
    return best or sheet(published.pixels, published.labels, published.classes)


# ---------------------------------------------------------------- safetensors


def _safetensors(published: Published) -> bytes:
    stored = published.stored
    tensors = stored.tensors() | ({} if published.shown is None else {"pixels": published.shown})
    same = {}
    for name, tensor in published.state.items():  # most of the state is what is stored already: kept once
        twin = next((k for k, t in tensors.items() if t.dtype == tensor.dtype and equal(t, tensor)), None)
        if twin:
            same[name] = twin
        else:
            tensors[f"state.{name}"] = tensor
    tensors |= {f"preprocess.{name}": tensor for name, tensor in published.preprocess.state().items()}
    about = {
        "format": FORMAT, "version": VERSION, "form": stored.form, **stored.about(), "same": same,
        "preprocess": published.preprocess.kind, "recipe": published.recipe, "classes": published.classes,
        "student_lr": published.lr, "step": published.step, "data": published.data,
    }  # fmt: skip
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
    version = about.get("version")
    if version not in (*FORM_OF_VERSION, VERSION):
        raise DataError(
            f"{file}: format version {version}, this Stillhouse reads 1 to {VERSION}: use the one that wrote it"
        )
    form = about.setdefault("form", FORM_OF_VERSION.get(version))
    if form not in FORMS:
        raise DataError(f"{file}: a set in the form {form!r}, which this Stillhouse does not know")
    return about


def _assemble(tensors: dict[str, Tensor], about: dict) -> Published:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

    twins = {name: tensors[twin] for name, twin in about.get("same", {}).items()}
    kind = about.get("preprocess")
    return Published(
        stored=FORMS[about["form"]].of(tensors, about),
        classes=tuple(about["classes"]),
        preprocess=preprocess.restored(kind, part("preprocess.")) if kind else None,
        lr=about["student_lr"],
        recipe=current(about["recipe"]),
        step=about["step"],
        state=part("state.") | twins,
        shown=tensors.get("pixels", tensors.get("crops.pixels")),
        data=about.get("data", {}),
    )


def current(recipe: dict) -> dict:
    """A stored recipe without settings that are gone since: a run of an early version may start before all experts."""
    objective = {k: v for k, v in recipe.get("objective", {}).items() if k not in ("first_experts", "first_steps")}
    return {**recipe, "objective": objective} if objective else recipe


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
