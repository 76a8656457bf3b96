"""A registered set is enough to train on: in a process without Stillhouse, to the accuracy on its card (promise 8)."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file
from support import small

from cluster.tracking import registered_model, registry
from cluster.tracking.run import Tracker
from distill import context as contexts
from distill import load
from distill.data.preprocess import Standardize, fit, restored, square, triangle
from distill.evaluate import Judge
from distill.levels import rounded
from distill.loop import Loop, Watcher
from distill.nets import stylegan2
from distill.published import FILE, Images, Published, Sampler, Windows, write

SETTINGS = (
    "synthetic.ipc=10", "network.depth=2", "network.width=32", "outer.steps=1", "outer.lr_img=0.001",
    "evaluation.networks=5", "evaluation.steps=[200]", "evaluation.decay=none", "evaluation.lr=0.02",
)  # fmt: skip

WITHOUT_STILLHOUSE = """
import json, sys
for name in ("distill", "cluster", "tune"): sys.modules[name] = None
import mlflow, numpy as np, torch
from torch import nn
from safetensors.numpy import load_file

torch.set_num_threads(1)
train = mlflow.pyfunc.load_model("models:/whitened@best").unwrap_python_model()
real = load_file(sys.argv[1])
x, y = torch.tensor(train.images), torch.tensor(train.labels)
test = torch.tensor(train.preprocess(real["pixels"]) if sys.argv[2] == "whitened" else real["pixels"])

def block(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.GroupNorm(o, o), nn.ReLU(), nn.AvgPool2d(2))

scores = []
for seed in range(12):
    torch.manual_seed(seed)
    net = nn.Sequential(block(1, 32), block(32, 32), nn.Flatten(), nn.Linear(128, 10))
    sgd = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    for _ in range(200):
        sgd.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        sgd.step()
    with torch.no_grad():
        scores.append(float((net(test).argmax(1).numpy() == real["labels"]).mean()))
print(json.dumps(scores))
"""


@pytest.fixture(scope="module")
def whitened(tmp_path_factory):
    """A published ZCA set, its folder, its tracking store, and what `stillhouse evaluate` would say of it."""
    place = tmp_path_factory.mktemp("whitened")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    recipe = small.context("distribution", *SETTINGS, "dataset.preprocess=zca").recipe
    context = contexts.prepare(recipe)
    loop = Loop(context, Watcher())
    loop.run()
    published = loop.published()
    score = Judge(context).score(loop.synthetic, None, context.data.test, 12, "test")
    torch.set_num_threads(before)
    write(published, place / "set")
    uri = f"sqlite:///{place}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        tracker = Tracker.open(uri, "distill", "whitened", "whitened", {}, {})
        registry.publish(tracker, "whitened", place / "set", {"selection_accuracy": "0.9"})
    pixels = context.data.preprocess.to_pixels(context.data.test.x)
    real = {"pixels": pixels.numpy(), "labels": context.data.test.y.numpy()}
    save_file(real, place / "real.safetensors")
    return published, place, uri, score


def accuracy_without_stillhouse(place, uri, seen: str) -> float:
    command = [sys.executable, "-c", WITHOUT_STILLHOUSE, str(place / "real.safetensors"), seen]
    env = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    out = subprocess.run(command, env=env, cwd=place, check=True, capture_output=True, text=True).stdout
    return float(np.mean(json.loads(out.splitlines()[-1])))


@pytest.mark.slow
def test_a_plain_torch_network_trained_from_the_registry_alone_does_as_well_as_evaluate_says(whitened):
    _, place, uri, score = whitened
    assert score.mean > 0.85
    assert accuracy_without_stillhouse(place, uri, "whitened") == pytest.approx(score.mean, abs=0.02)


@pytest.mark.slow
def test_without_the_preprocessing_the_same_network_fails(whitened):
    """So the test above would notice if the registry lost it."""
    _, place, uri, score = whitened
    assert accuracy_without_stillhouse(place, uri, "plain") < score.mean - 0.2


def test_a_set_is_loaded_from_the_registry_in_three_lines(whitened, monkeypatch):
    published, place, uri, _ = whitened
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    train = load("models:/whitened@best")
    assert torch.equal(train.images, published.images) and train.preprocess.kind == "zca"
    pixels = published.pixels[:3]
    assert torch.allclose(train.preprocess(pixels), published.preprocess(pixels), atol=1e-6)


@pytest.mark.parametrize("kind", ["none", "standardize", "zca", "zca-podd"])
def test_the_registered_code_preprocesses_as_the_set_does(kind):
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 4, 5), generator=g, dtype=torch.uint8)
    preprocess = fit(kind, images, torch.device("cpu"))
    model = registered_model.DistilledSet()
    model.kind = kind
    model.parts = {name: t.numpy() for name, t in preprocess.state().items()}
    if "whiten" in model.parts:
        model.parts["whiten"] = registered_model.square(model.parts["whiten"])
    pixels = images[:7].float() / 255
    seen = model.preprocess(pixels.numpy())
    assert seen.dtype == np.float32 and seen.shape == (7, 3, 4, 5)
    assert np.allclose(seen, preprocess(pixels).numpy(), atol=1e-5)
    again = restored(kind, preprocess.state())
    assert torch.equal(again(pixels), preprocess(pixels))
    assert torch.allclose(again.inverse(again(pixels)), preprocess.inverse(preprocess(pixels)), atol=1e-4)


@pytest.mark.parametrize("form", ["images", "windows", "sampler", "8 bits", "enlarged", "enlarged 8 bits"])
def test_the_registered_code_answers_with_every_form(form, tmp_path, monkeypatch):
    monkeypatch.setattr("distill.published.forms.SAMPLER_MODULES", ("support.",))
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 1, 4, 5, generator=g), torch.eye(3).repeat(2, 1)
    spread = torch.tensor([[-3.0], [6.0 / 255]])
    parts, corners = rounded(torch.randn(2, 1, 4, 6, generator=g), spread), torch.tensor([[1, 0, 3], [0, 2, 0]])
    stored = {
        "images": Images(x, y),
        "8 bits": Images(rounded(x, spread), y, spread),
        "enlarged": Windows(parts, corners, (2, 3), y[:2], enlarged=(4, 5)),
        "enlarged 8 bits": Windows(parts, corners, (2, 3), y[:2], enlarged=(7, 9), spread=spread),
        "windows": Windows(torch.randn(2, 1, 6, 7, generator=g), torch.tensor([[1, 4, 5], [0, 0, 2]]), (4, 5), y[:2]),
        "sampler": Sampler({"mean": x[:3, :, :, :4], "scale": torch.tensor(0.1)}, "support.clouds", {"side": 4}, 3, 2),
    }[form]
    preprocess = Standardize(torch.full((1, 1, 1), 0.5), torch.full((1, 1, 1), 0.25))
    shown = stored.shown(preprocess.to_pixels)
    published = Published(stored, ("a", "b", "c"), preprocess, 0.1, {}, 3, {}, shown)
    files = {path.name: str(path) for path in write(published, tmp_path)}
    model = registered_model.DistilledSet()
    model.load_context(SimpleNamespace(artifacts=files | {"synthetic": files[FILE]}))
    if "enlarged" in form:  # NumPy's sums are rounded in another order
        assert np.allclose(model.images, published.images.numpy(), atol=1e-6)
    else:
        assert np.array_equal(model.images, published.images.numpy())
    assert model.images.dtype == np.float32 and model.lr == 0.1
    assert np.array_equal(model.labels, published.labels.numpy())
    table = model.predict(None, None)
    assert np.array_equal(np.stack(table["x"]), model.images)
    assert np.allclose(np.stack(table["pixels"]), published.pixels.numpy(), atol=1e-6)


def test_a_symmetric_matrix_is_its_triangle():
    a = torch.randn(9, 9)
    a = a + a.T
    assert len(triangle(a)) == 45 and torch.equal(square(triangle(a)), a)
    assert np.array_equal(registered_model.square(triangle(a).numpy()), a.numpy())


def as_model(published: Published, folder) -> registered_model.DistilledSet:
    """What MLflow loads of a registered set."""
    files = {path.name: str(path) for path in write(published, folder)}
    model = registered_model.DistilledSet()
    model.load_context(SimpleNamespace(artifacts=files | {"synthetic": files[FILE]}))
    return model


def test_a_generator_draws_what_it_is_asked_for(tmp_path):
    size = stylegan2.Size(8, 1, 3, 6, 6, 2, 32, 4)
    net = stylegan2.Generator(size).initialise(torch.Generator().manual_seed(0))
    weights = {name: p.detach() for name, p in net.named_parameters()}
    stored = Sampler(weights, "distill.nets.stylegan2", stylegan2.settings(size), 3, 2)
    preprocess = Standardize(torch.full((1, 1, 1), 0.5), torch.full((1, 1, 1), 0.25))
    model = as_model(Published(stored, ("a", "b", "c"), preprocess, None, {}, 3, {}), tmp_path)

    def drawn(labels, seed, truncation):
        return stored.fresh(torch.tensor(labels), torch.Generator().manual_seed(seed), truncation)

    table = model.predict(None, pd.DataFrame({"label": [2, "b", 2, 0], "seed": [5, 5, 6, 5], "truncation": 0.5}))
    x = torch.tensor(np.stack(table["x"]))
    assert torch.equal(x[[0, 1, 3]], drawn([2, 1, 0], 5, 0.5)) and torch.equal(x[[2]], drawn([2], 6, 0.5))
    assert table["label"].tolist() == [2, 1, 2, 0] and table["class"].tolist() == ["c", "b", "c", "a"]
    assert np.array_equal(np.stack(table["soft_label"]), np.eye(3)[[2, 1, 2, 0]])
    assert np.allclose(np.stack(table["pixels"]), preprocess.to_pixels(x).numpy(), atol=1e-6)
    plain = model.predict(None, pd.DataFrame({"label": [1]}, index=[7]))
    assert torch.equal(torch.tensor(np.stack(plain["x"])), drawn([1], 0, 1.0)), "seed 0, no truncation"
    assert len(model.predict(None, pd.DataFrame())) == 6, "a table without labels asks for the set"

    network, z = model.network(), torch.randn(2, 6)
    assert torch.equal(network(z, torch.tensor([0, 1])), net(z, torch.tensor([0, 1])))
    network.requires_grad_()(z, torch.tensor([0, 1])).sum().backward()
    with pytest.raises(ValueError, match="no class 'd'; there are a, b, c"):
        model.predict(None, pd.DataFrame({"label": ["d"]}))
    with pytest.raises(ValueError, match="no class 3; there are a, b, c"):
        model.predict(None, pd.DataFrame({"label": [3]}))
    with pytest.raises(ValueError, match="no rows"):
        model.predict(None, pd.DataFrame({"label": []}))


def test_a_set_of_images_draws_none(tmp_path):
    x = torch.rand(3, 1, 4, 4)
    model = as_model(small.published(x, torch.eye(3), x, ("a", "b", "c"), None, {}, 1, {}), tmp_path)
    with pytest.raises(ValueError, match="stores its training images"):
        model.predict(None, pd.DataFrame({"label": [0]}))
    with pytest.raises(ValueError, match="stores its training images"):
        model.network()


@pytest.mark.parametrize("kind", ["none", "standardize", "zca", "zca-podd"])
def test_drawn_images_are_shown_as_the_published_ones(kind, tmp_path):
    levels = torch.randint(256, (40, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    preprocess = fit(kind, levels, torch.device("cpu"))
    x = preprocess(levels[:3] / 255)
    model = as_model(Published(Images(x, torch.eye(3)), ("a", "b", "c"), preprocess, None, {}, 1, {}), tmp_path)
    assert np.allclose(model.to_pixels(x.numpy()), preprocess.to_pixels(x).numpy(), atol=1e-4)
