"""The files of a published set: one folder that people, libraries and this project can read.

    synthetic.safetensors   everything, exact: read() needs only this file, and so does training a network
    synthetic.parquet       one row per image in the Hugging Face image layout, with soft labels and exact pixels
    images.png              a picture of the set; some sets have more pictures
    recipe.json             the resolved recipe
    sampler.py              for a Sampler: the code that draws its images, for use without Stillhouse

Format version 3 names the form of the set (distill/published/forms.py) and contains its preprocessing; version 4 adds
images in 8 bits and windows that are enlarged, and only sets that have these are written in it. Versions 1 (images) and
2 (windows), which lack the preprocessing, can be read too. docs/formats.md lists every key.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import safetensors.torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from torch import Tensor, equal, uint8

from distill.data import preprocess
from distill.errors import DataError
from distill.levels import LAST
from distill.picture import png, sheet
from distill.published.forms import FORMS, SamplerHeader
from distill.published.published import Published
from distill.published.table import table
from distill.recipe import current, portable

FORMAT = "stillhouse synthetic set"
VERSIONS = (1, 2, 3, 4)
FORM_OF_VERSION = {1: "images", 2: "windows"}
"""The form of sets in versions that do not name it."""
FILE = "synthetic.safetensors"
FILES = ("recipe.json", "images.png", "synthetic.parquet", FILE)


def write(published: Published, folder: Path) -> list[Path]:
    """Write the files, with a PNG for each additional picture, into `folder`, created if missing; return their paths.

    Each file is written atomically, and the one that read() needs is last. The same set gives the same bytes, wherever
    its data are: paths in its recipe are cut to their last part. Raises
    DataError for a set that lacks its preprocessing or whose parts do not fit together.
    """
    published.check("set to publish")
    if published.preprocess is None:
        raise DataError("set to publish: it lacks its preprocessing, without which no network can be trained on it")
    published = replace(published, recipe=portable(published.recipe))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = (json.dumps(published.recipe, indent=2, sort_keys=True) + "\n").encode()
    contents = (recipe, png(picture(published)), table(published), encoded(published))
    more = {f"{name}.png": png(image) for name, image in published.pictures.items() if name != "synthetic"}
    if code := published.stored.about().get("code"):
        more["sampler.py"] = code.encode()
    named = more | dict(zip(FILES, contents, strict=True))
    return [_replace(folder / name, content) for name, content in named.items()]


def read(path: Path) -> Published:
    """The set in a file written by write(), or in its folder, bit for bit.

    Raises DataError if there is none, if the file is damaged or of another kind, and for an unknown format version.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"no distilled set at {file}: give the folder or the {FILE} that `stillhouse distill` wrote")
    if file.suffix in (".parquet", ".png", ".csv", ".zip"):
        raise DataError(f"{file}: sets are read from {FILE}, which `stillhouse export --format safetensors` writes")
    try:
        with safe_open(file, framework="pt") as opened:
            header = _header(opened.metadata(), file)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    except SafetensorError as error:
        raise DataError(f"{file}: not a complete safetensors file ({error}): fetch or publish it again") from None
    try:
        published = _assemble(tensors, header)
    except KeyError as error:
        raise DataError(f"{file}: {error} is missing: fetch or publish it again") from None
    except DataError as error:
        raise DataError(f"{file}: {error}: fetch or publish it again") from None
    published.check(str(file))
    return published


def picture(published: Published) -> Image.Image:
    """The main picture of a set; for a set that was read from a file, its images with their classes."""
    best = published.pictures.get("synthetic")
    return best or sheet(published.pixels, published.labels, published.classes)


# ---------------------------------------------------------------- safetensors


def encoded(published: Published) -> bytes:
    """The bytes of the safetensors file."""
    stored = published.stored
    tensors = stored.tensors() | ({} if published.shown is None else {"pixels": _pixels(published)})
    same = {}
    for name, tensor in published.state.items():  # most of the state equals a stored tensor: write it once
        twin = next((k for k, t in tensors.items() if t.dtype == tensor.dtype and equal(t, tensor)), None)
        if twin:
            same[name] = twin
        else:
            tensors[f"state.{name}"] = tensor
    tensors |= {f"preprocess.{name}": tensor for name, tensor in published.preprocess.state().items()}
    about = {
        "format": FORMAT, "version": stored.version, "form": stored.form, **stored.about(), "same": same,
        "preprocess": published.preprocess.kind, "recipe": published.recipe, "classes": published.classes,
        "student_lr": published.lr, "step": published.step, "data": published.data,
    }  # fmt: skip
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # One metadata key only: safetensors writes several in an order that changes from process to process.
    return safetensors.torch.save(copies, {"stillhouse": json.dumps(about, sort_keys=True)})


def _pixels(published: Published) -> Tensor:
    """The images in [0, 1]; of a set in 8 bits, whose pixels have 256 levels (Stored.shown), as these."""
    in_8_bits = getattr(published.stored, "spread", None) is not None
    return published.shown.mul(LAST).round().to(uint8) if in_8_bits else published.shown


def _shown(pixels: Tensor | None) -> Tensor | None:
    return pixels.float() / LAST if pixels is not None and pixels.dtype == uint8 else pixels


class _Header(BaseModel):
    """The JSON values of a file, checked before anything is made of them."""

    model_config = ConfigDict(extra="ignore")
    version: Literal[VERSIONS]
    form: Literal["images", "windows", "sampler"]
    classes: list[str]
    student_lr: float | None
    step: int
    recipe: dict
    data: dict[str, str] = {}
    same: dict[str, str] = {}
    preprocess: str | None = None
    crop: tuple[PositiveInt, PositiveInt] | None = None
    sampler: SamplerHeader | None = None
    code: str = ""
    wraps: tuple[bool, bool] = (False, False)
    colours: NonNegativeInt = 0
    enlarged: tuple[PositiveInt, PositiveInt] | None = None

    @model_validator(mode="after")
    def _has_what_its_form_needs(self):
        needed = {"windows": "crop", "sampler": "sampler"}.get(self.form)
        if needed and getattr(self, needed) is None:
            raise ValueError(f"{needed} is missing")
        return self


def _header(metadata: dict[str, str] | None, file: Path) -> _Header:
    try:
        about = json.loads((metadata or {}).get("stillhouse", "{}"))
        json.dumps(about, ensure_ascii=False).encode()  # pages and files take no half of a character, as in "\\ud800"
    except UnicodeEncodeError as error:
        raise DataError(f"{file}: its header is damaged ({error}): fetch or publish it again") from None
    except (json.JSONDecodeError, RecursionError):
        about = {}
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise DataError(f"{file}: a safetensors file, but not a distilled set; `stillhouse distill` writes {FILE}")
    version, form = about.get("version"), about.get("form")
    if version not in VERSIONS:
        raise DataError(
            f"{file}: format version {version}, but this Stillhouse reads versions 1 to {VERSIONS[-1]}: use the "
            "Stillhouse that wrote it"
        )
    if version in FORM_OF_VERSION:
        form = FORM_OF_VERSION[version]
    if not isinstance(form, str) or form not in FORMS:
        raise DataError(f"{file}: unknown form {form!r} (known: {', '.join(FORMS)}): use the Stillhouse that wrote it")
    try:
        return _Header.model_validate({**about, "form": form})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise DataError(f"{file}: its header is damaged ({faults}): fetch or publish it again") from None


def _assemble(tensors: dict[str, Tensor], header: _Header) -> Published:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

    kind = header.preprocess
    return Published(
        stored=FORMS[header.form].of(tensors, header.model_dump()),
        classes=tuple(header.classes),
        preprocess=preprocess.restored(kind, part("preprocess.")) if kind else None,
        lr=header.student_lr,
        recipe=current(header.recipe),
        step=header.step,
        state=part("state.") | {name: tensors[twin] for name, twin in header.same.items()},
        shown=_shown(tensors.get("pixels", tensors.get("crops.pixels"))),
        data=header.data,
    )


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
