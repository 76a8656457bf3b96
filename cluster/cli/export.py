"""`stillhouse export RUN --format hf --out DIR`: a set as files that other programs read.

stillhouse export digits@best --format hf --out digits-distilled
python -c 'from datasets import load_dataset; print(load_dataset("digits-distilled")["train"][0])'
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cluster.cli import common
from cluster.cli.options import Json, RunName, Store, app
from distill.errors import StoreError


class Format(StrEnum):
    parquet = "parquet"
    safetensors = "safetensors"
    png = "png"
    hf = "hf"


@app.command()
def export(
    what: RunName,
    form: Annotated[
        Format, typer.Option("--format", help="hf: a folder for the Hugging Face Hub, with card, Parquet, safetensors.")
    ] = Format.hf,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files.")] = Path("export"),
    store: Store = None,
    json: Json = None,
):
    """Write a distilled set as Parquet, safetensors, PNG or a Hugging Face dataset."""
    from cluster.jobs import evaluating
    from cluster.tracking.registry import sha256
    from distill.published.export import export as write
    from distill.text import byte_size

    url, tracking, _ = common.places(store)
    published = evaluating.find(what, url, tracking)
    try:
        paths = write(published, form.value, out, evaluating.known_of(what, url, tracking))
    except OSError as error:
        raise StoreError(f"{out}: {error.strerror}; name a folder that can be written") from None
    for path in paths[:20]:
        common.console.print(f"{byte_size(path.stat().st_size):>9}  {escape(str(path))}", soft_wrap=True)
    if len(paths) > 20:
        common.console.print(f"           ... and {len(paths) - 20} more files", soft_wrap=True)
    soft = not bool(((published.labels == 0) | (published.labels == 1)).all())
    if form is Format.png and soft:
        common.console.print("the labels are soft: train on those in labels.csv, not on the folders' names")
    files = [{"file": str(path), "bytes": path.stat().st_size, "sha256": sha256(path)} for path in paths]
    common.write_json(json, files)
