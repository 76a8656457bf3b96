"""What MLflow runs when someone loads a registered distilled set: its images and labels as a table.

MLflow copies this file into every registered version (models from code: no pickle), so it imports nothing of
Stillhouse and works where Stillhouse is not installed:

    mlflow.pyfunc.load_model("models:/digits@best").predict(None)
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from safetensors import safe_open


class DistilledSet(PythonModel):
    """A distilled set as a model: whatever it is asked, it answers with all of its images."""

    def load_context(self, context):
        """Read the safetensors file among the version's artifacts."""
        with safe_open(Path(context.artifacts["synthetic"]), framework="np") as file:
            about = json.loads(file.metadata()["stillhouse"])
            self.y, self.classes = file.get_tensor("y"), about["classes"]
            if "crop" in about:
                self.pixels = cut(file.get_tensor("crops.pixels"), file.get_tensor("crops.corners"), *about["crop"])
            else:
                self.pixels = file.get_tensor("pixels")

    def predict(self, context, model_input: pd.DataFrame, params=None):
        """One row per image: label (int), class (its name), soft_label (classes,), pixels (c, h, w) in [0, 1]."""
        labels = self.y.argmax(1)
        return pd.DataFrame(
            {
                "label": labels,
                "class": [self.classes[k] for k in labels],
                "soft_label": list(self.y),
                "pixels": list(self.pixels),
            }
        )


def cut(sources: np.ndarray, corners: np.ndarray, h: int, w: int) -> np.ndarray:
    """Windows (n, c, h, w) of sources (m, c, H, W); corners (n, 3) are source, top, left, and edges wrap."""
    rows = (corners[:, 1, None] + np.arange(h)) % sources.shape[2]  # (n, h)
    columns = (corners[:, 2, None] + np.arange(w)) % sources.shape[3]  # (n, w)
    windows = sources[corners[:, 0, None, None], :, rows[:, :, None], columns[:, None, :]]  # (n, h, w, c)
    return windows.transpose(0, 3, 1, 2)


set_model(DistilledSet())
