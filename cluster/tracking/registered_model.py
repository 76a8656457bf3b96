"""The code that MLflow runs to load a registered distilled set: its images, labels and preprocessing.

MLflow copies this file into every registered version (models from code: no pickle), so it imports nothing from
Stillhouse and works without it:

    model = mlflow.pyfunc.load_model("models:/digits-mtt-pixels-1ipc@best")
    table = model.predict(None)                  # label, class, soft_label, pixels (for display), x (for training)
    train = model.unwrap_python_model()          # train.images, train.labels, train.classes, train.lr
    x = train.preprocess(real_pixels)            # input for a network that was trained on the set

A set that is a generator draws other images too, and gives its network for PyTorch:

    table = model.predict(pd.DataFrame({"label": [3, 3, 7], "seed": 1, "truncation": 0.7}))
    network = model.unwrap_python_model().network()
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from safetensors import safe_open


class DistilledSet(PythonModel):
    """A distilled set as a model: predict() returns all images or, given labels, new ones of a generator.

    images (n, c, h, w) as networks see them, labels (n, classes) probabilities, pixels (n, c, h, w) in [0, 1],
    classes their names, lr the learned rate or None, recipe the settings it was distilled with; all NumPy or JSON.
    """

    def load_context(self, context):
        """Read the safetensors file in the artifacts of the version."""
        with safe_open(Path(context.artifacts["synthetic"]), framework="np") as file:
            about = json.loads(file.metadata()["stillhouse"])
            tensors = {name: file.get_tensor(name) for name in file.keys() if not name.startswith("state.")}
        self.classes, self.lr, self.recipe = about["classes"], about["student_lr"], about["recipe"]
        self.kind = about["preprocess"]
        self.parts = {k.removeprefix("preprocess."): t for k, t in tensors.items() if k.startswith("preprocess.")}
        if "whiten" in self.parts:
            self.parts["whiten"] = square(self.parts["whiten"])
        self.sampler, self.files, self.tensors = about.get("sampler"), context.artifacts, tensors
        self.images, self.labels = FORMS[about["form"]](tensors, about, context.artifacts)
        shown = tensors.get("pixels", self.images)
        shown = shown.astype(np.float32) / 255 if shown.dtype == np.uint8 else shown
        self.pixels = windows(shown, tensors, about) if about["form"] == "windows" else shown

    def preprocess(self, pixels: np.ndarray) -> np.ndarray:
        """Convert real images (n, c, h, w) in [0, 1] to what networks see, float32."""
        rows = pixels.astype(np.float32).reshape(len(pixels), -1)
        if self.kind == "standardize":
            return ((pixels - self.parts["mean"]) / self.parts["std"]).astype(np.float32)
        if self.kind == "zca":
            rows = (rows - self.parts["mean"]) @ self.parts["whiten"]
        elif self.kind == "zca-podd":
            rows = rows - rows.mean(1, keepdims=True)
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = rows / np.where(norms > 0, norms, 1) @ self.parts["whiten"]
        return rows.reshape(pixels.shape)

    def to_pixels(self, x: np.ndarray) -> np.ndarray:
        """Convert what networks see (n, c, h, w) to images in [0, 1], float32."""
        if self.kind == "standardize":
            x = x * self.parts["std"] + self.parts["mean"]
        elif self.kind in ("zca", "zca-podd"):
            rows = x.reshape(len(x), -1) @ np.linalg.inv(self.parts["whiten"].astype(np.float64))
            podd = self.kind == "zca-podd"
            rows = rows * self.parts["length"] + self.parts["level"] if podd else rows + self.parts["mean"]
            x = rows.reshape(x.shape)
        return np.clip(x, 0, 1).astype(np.float32)

    def draw(self, labels: np.ndarray, seed: int = 0, truncation: float = 1.0) -> np.ndarray:
        """New images (n, c, h, w), as networks see them, of the classes `labels` (n,); the same for the same arguments.

        Raises ValueError for a set that stores its images.
        """
        import torch

        code, weights, settings = self._generator()
        with torch.no_grad():
            g = torch.Generator().manual_seed(int(seed))
            return code.draw(weights, settings, torch.as_tensor(labels), g, float(truncation)).numpy()

    def network(self):
        """The generator as a torch module, for further training. Raises ValueError for a set that stores its images."""
        code, weights, settings = self._generator()
        return code.loaded({name: t.clone() for name, t in weights.items()}, settings)

    def _generator(self):
        if self.sampler is None:
            raise ValueError("this set stores its training images and draws no others: call predict(None)")
        return code_of(self.files), weights_of(self.tensors), self.sampler["settings"]

    def predict(self, context, model_input: pd.DataFrame, params=None):
        """A row per image: label (int), class (its name), soft_label (classes,), pixels and x (c, h, w).

        All images of the set or, for a table with a column `label` (numbers or names of classes) and, if given, `seed`
        (0) and `truncation` (1.0), one new image for each row; rows that have both in common are drawn together.
        """
        if not isinstance(model_input, pd.DataFrame) or "label" not in model_input:
            return self._table(self.labels, self.images, self.pixels)
        asked = model_input.reset_index(drop=True)
        if asked.empty:
            raise ValueError("no rows: give a label for each image to draw, or no table for the images of the set")
        numbers = np.array([self._number(label) for label in asked["label"]])
        settings = pd.DataFrame({"seed": asked.get("seed", 0), "truncation": asked.get("truncation", 1.0)}, asked.index)
        x = np.empty((len(asked), *self.images.shape[1:]), np.float32)
        for (seed, truncation), rows in settings.groupby(["seed", "truncation"]).groups.items():
            x[rows] = self.draw(numbers[rows], seed, truncation)
        return self._table(np.eye(len(self.classes), dtype=np.float32)[numbers], x, self.to_pixels(x))

    def _number(self, label) -> int:
        """The number of a class, given that or its name."""
        if label in self.classes:
            return self.classes.index(label)
        if str(label).isdecimal() and int(label) < len(self.classes):
            return int(label)
        raise ValueError(f"no class {label!r}; there are {', '.join(self.classes[:20])}")

    def _table(self, y: np.ndarray, x: np.ndarray, pixels: np.ndarray) -> pd.DataFrame:
        labels = y.argmax(1)
        return pd.DataFrame(
            {
                "label": labels,
                "class": [self.classes[k] for k in labels],
                "soft_label": list(y),
                "pixels": list(pixels),
                "x": list(x),
            }
        )


def of_images(tensors, about, files):
    """Images and labels of a set that stores its images."""
    return values(tensors, "x"), tensors["y"]


def of_windows(tensors, about, files):
    """Images and labels of a set that stores larger images, and the windows to cut out of them."""
    return windows(values(tensors, "crops.x"), tensors, about), tensors["y"]


def of_sampler(tensors, about, files):
    """Images and labels drawn by the code that is stored with the weights; the same ones each time."""
    import torch

    code, weights, sampler = code_of(files), weights_of(tensors), about["sampler"]
    labels = torch.arange(sampler["classes"]).repeat_interleave(sampler["per_class"])
    with torch.no_grad():
        x = code.draw(weights, sampler["settings"], labels, torch.Generator().manual_seed(0), 1.0)
    return x.numpy(), np.eye(sampler["classes"], dtype=np.float32)[labels.numpy()]


def code_of(files):
    """The module, stored with the weights, that draws from them."""
    spec = importlib.util.spec_from_file_location("sampler", files["sampler.py"])
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    return code


def weights_of(tensors):
    """The weights of a generator, by the names that its code gives them."""
    import torch

    return {k.removeprefix("sampler."): torch.from_numpy(t) for k, t in tensors.items() if k.startswith("sampler.")}


FORMS = {"images": of_images, "windows": of_windows, "sampler": of_sampler}


def values(tensors, name: str) -> np.ndarray:
    """Images as networks see them; a set in 8 bits has 256 levels per channel, from a lowest value in even steps."""
    if "spread" not in tensors:
        return tensors[name]
    low, step = tensors["spread"][:, :, None, None]
    return low + step * tensors[name].astype(np.float32)


def windows(sources: np.ndarray, tensors, about) -> np.ndarray:
    """The training images in larger ones, enlarged if they are stored smaller than they are."""
    x = cut(sources, tensors["crops.corners"], *about["crop"])
    return enlarge(x, *about["enlarged"]) if "enlarged" in about else x


def enlarge(x: np.ndarray, h: int, w: int) -> np.ndarray:
    """Images x (n, c, h', w') at size (h, w), bilinearly, with pixels as squares."""
    for axis, size in ((2, h), (3, w)):
        length = x.shape[axis]
        position = np.clip((np.arange(size) + 0.5) * (length / size) - 0.5, 0, length - 1)
        low = position.astype(int)
        part = (position - low).astype(np.float32).reshape(-1, *[1] * (3 - axis))
        x = np.take(x, low, axis) * (1 - part) + np.take(x, np.minimum(low + 1, length - 1), axis) * part
    return x


def cut(sources: np.ndarray, corners: np.ndarray, h: int, w: int) -> np.ndarray:
    """Windows (n, c, h, w) of sources (m, c, H, W); corners (n, 3) are source, top, left, and windows wrap around."""
    rows = (corners[:, 1, None] + np.arange(h)) % sources.shape[2]  # (n, h)
    columns = (corners[:, 2, None] + np.arange(w)) % sources.shape[3]  # (n, w)
    windows = sources[corners[:, 0, None, None], :, rows[:, :, None], columns[:, None, :]]  # (n, h, w, c)
    return windows.transpose(0, 3, 1, 2)


def square(rows: np.ndarray) -> np.ndarray:
    """A symmetric matrix (d, d) from the rows of its upper triangle, (d * (d + 1) / 2,)."""
    d = int(((8 * len(rows) + 1) ** 0.5 - 1) / 2)
    matrix = np.zeros((d, d), rows.dtype)
    matrix[np.triu_indices(d)] = rows
    return matrix + np.triu(matrix, 1).T


set_model(DistilledSet())
