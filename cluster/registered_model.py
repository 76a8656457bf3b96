"""What MLflow runs when someone loads a registered distilled set: its images and labels as a table.

MLflow copies this file into every registered version (models from code: no pickle), so it imports nothing of
Stillhouse and works where Stillhouse is not installed:

    mlflow.pyfunc.load_model("models:/digits@best").predict(None)
"""

import json
from pathlib import Path

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from safetensors import safe_open


class DistilledSet(PythonModel):
    """A distilled set as a model: whatever it is asked, it answers with all of its images."""

    def load_context(self, context):
        """Read the safetensors file among the version's artifacts."""
        with safe_open(Path(context.artifacts["synthetic"]), framework="np") as file:
            self.pixels, self.y = file.get_tensor("pixels"), file.get_tensor("y")
            self.classes = json.loads(file.metadata()["stillhouse"])["classes"]

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


set_model(DistilledSet())
