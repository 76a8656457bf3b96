"""A published set as a Parquet table: one row per training image, in the Hugging Face image layout."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from distill.picture import png, to_images
from distill.published.forms import Windows
from distill.published.published import Published

FEW = 16
"""Values of the preprocessing that a table has, at most: means and standard deviations of the channels."""


def table(published: Published, whole: bool = False) -> bytes:
    """The bytes of the Parquet file: image (PNG), label, soft_label, and the exact values or the window's position.

    A `whole` table has the exact values of windows too, and in its schema's metadata, under `stillhouse`, what training
    needs besides: about().
    """
    labels = published.labels.argmax(1)
    images = [
        {"bytes": png(image), "path": f"{i:05d}_{label}.png"}
        for i, (image, label) in enumerate(zip(to_images(published.pixels), labels.tolist(), strict=True))
    ]
    columns = {
        "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "label": pa.array(labels.cpu().numpy(), pa.int64()),
        "soft_label": pa.array(list(_floats(published.labels)), pa.list_(pa.float32())),
        **_exact(published),
    } | ({"x": _fixed(published.images)} if whole else {})
    metadata = {"huggingface": json.dumps({"info": {"features": _features(published, columns)}})}
    if whole:
        metadata["stillhouse"] = json.dumps(about(published), sort_keys=True)
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer, compression="zstd")
    return buffer.getvalue()


def about(published: Published) -> dict:
    """What training needs besides images and labels: classes, learned rate, image shape, how networks were trained, and
    the preprocessing, with its values if they are few (a whitening matrix is only in the safetensors file)."""
    preprocess, recipe = published.preprocess, published.recipe
    values = {name: t.flatten().tolist() for name, t in preprocess.state().items() if t.numel() <= FEW}
    return {
        "classes": list(published.classes), "student_lr": published.lr, "shape": list(published.shape),
        "preprocess": {"kind": preprocess.kind, **values}, "evaluation": recipe.get("evaluation", {}),
    }  # fmt: skip


def _exact(published: Published) -> dict[str, pa.Array]:
    """Columns with what the 256 levels of a PNG cannot represent: exact values or, for Windows, their positions."""
    if isinstance(published.stored, Windows):
        corners = zip(("source", "top", "left"), published.stored.corners.T.cpu(), strict=True)
        return {name: pa.array(values.numpy(), pa.int64()) for name, values in corners}
    return {"pixels": _fixed(published.pixels), "x": _fixed(published.images)}


def _features(published: Published, columns: dict) -> dict:
    """Column types as the `datasets` library writes them into a Parquet schema."""
    floats = {"dtype": "float32", "_type": "Value"}
    image = {"feature": floats, "length": published.images[0].numel(), "_type": "Sequence"}
    integer = {"dtype": "int64", "_type": "Value"}
    kinds = {
        "image": {"_type": "Image"},
        "label": {"names": list(published.classes), "_type": "ClassLabel"},
        "soft_label": {"feature": floats, "_type": "Sequence"},
        "pixels": image,
        "x": image,
    }
    return {name: kinds.get(name, integer) for name in columns}


def _floats(x: Tensor) -> np.ndarray:
    return x.detach().cpu().float().flatten(1).numpy()  # (n, values per image)


def _fixed(x: Tensor) -> pa.FixedSizeListArray:
    """Each image's values in (c, h, w) order as one list of fixed length."""
    values = _floats(x)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), pa.float32()), values.shape[1])
