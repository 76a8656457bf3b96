"""Make a table of class distances from embeddings.

python -m distill.order.tables.make EMBEDDINGS.npy LABELS.json distill/order/tables/NAME.safetensors
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy

from distill.order.embeddings.clip_table import LEVELS
from distill.order.measure import measure


def write(embeddings: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Store the 1 - cosine distances of embeddings (c, d) as a table: the upper triangle, row by row, 16 bits each."""
    distances = measure(embeddings, "cosine")[np.triu_indices(len(classes), 1)]
    levels = np.round(distances / distances.max() * LEVELS).astype(np.uint16)
    metadata = {"classes": list(classes), "largest": float(distances.max())}
    Path(path).write_bytes(safetensors.numpy.save({"distances": levels}, {"table": json.dumps(metadata)}))


if __name__ == "__main__":
    vectors, labels, target = sys.argv[1:]
    write(np.load(vectors, allow_pickle=False), json.loads(Path(labels).read_text(encoding="utf8")), Path(target))
