"""What a visitor takes home: the published files as they are stored, and the training images as PNG files in a zip."""

import hashlib
import io
import zipfile
from dataclasses import dataclass

from cluster.gallery.assets import Assets
from cluster.gallery.result import Result
from distill.published import FILE
from distill.published.export import png_files
from distill.published.table import table
from distill.text import byte_size

PARQUET, ZIP = "synthetic.parquet", "images-png.zip"
ABOUT = {
    FILE: "safetensors: exact values, labels, learning rate and preprocessing; all that training needs",
    PARQUET: "Parquet in the Hugging Face image layout",
    ZIP: "the training images as PNG, a folder per class",
    "sampler.py": "the code that draws images from the weights, for use without Stillhouse",
}


@dataclass(frozen=True)
class Download:
    """A file to download."""

    name: str
    url: str
    about: str
    size: str
    sha256: str


def downloads(result: Result, assets: Assets) -> list[Download]:
    """The files of a result, added to the assets; Parquet is written anew if it was not stored."""
    files = {name: result.files[name] for name in (FILE, PARQUET, "sampler.py") if name in result.files}
    if PARQUET not in files:
        files[PARQUET] = table(result.published)
    files[ZIP] = png_zip(result)
    found = []
    for name, about in ABOUT.items():
        if data := files.get(name):
            url, digest = assets.add(f"files/{name}", data), hashlib.sha256(data).hexdigest()
            found.append(Download(name, url, about, byte_size(len(data)), digest))
    return found


def png_zip(result: Result) -> bytes:
    """A zip of the training images, a folder per class, and labels.csv with every soft label. Same set, same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # PNG files are compressed
        for name, data in png_files(result.published):
            archive.writestr(_entry(name), data)
    return buffer.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
