"""A GAN as a job: trained on real Ray from one expert's features, registered, then started from by other methods."""

import json

import pytest
from support.cli import stillhouse

from cluster.results.runs import Run
from cluster.store import open_store
from cluster.tracking import registry
from cluster.tracking.metrics import curves
from distill import context as contexts
from distill import recipe, synthetic
from distill.published.forms import Sampler

QUICK = (
    "dataset.limit=300", "network.depth=1", "network.width=4", "experts.count=2", "experts.epochs=2", "threads=1",
    "objective.features=experts", "objective.channels=4", "objective.batch_syn=20", "objective.batch_real=20",
    "outer.steps=6", "outer.evaluate_every=3", "outer.checkpoint_every=2", "outer.picture_every=3",
    "evaluation.epochs=2", "evaluation.networks=1", "evaluation.selection_networks=1",
)  # fmt: skip


@pytest.mark.ray
def test_a_gan_is_trained_registered_and_starts_other_methods(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path))
    for name in ("STILLHOUSE_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    assert stillhouse(monkeypatch, "distill", "gan-digits", *QUICK, "--json", str(tmp_path / "gan.json")) == 0
    result, uri = json.loads((tmp_path / "gan.json").read_text()), f"sqlite:///{tmp_path}/mlflow.db"
    store = open_store(f"file:{tmp_path}/store")
    published = Run(store, result["run_id"]).published()
    assert isinstance(published.stored, Sampler) and result["model"].startswith("digits-gan-generator-")
    assert len([e for e in store.list("experts/") if e.key.endswith(".arrow")]) == 1, "one expert is enough"
    logged = curves(uri, "distill", result["run_id"])
    assert [len(logged[m]) for m in ("distance_within_class", "discriminator_loss", "set_loss")] == [6, 6, 6]

    start = f"synthetic.start=file:{tmp_path}/store/runs/{result['run_id']}/published"
    for kind in ("generator", "latents"):
        others = (f"synthetic.kind={kind}", start, "objective.kind=distribution")
        made = synthetic.build(contexts.prepare(recipe.load("digits", [*QUICK[:6], *others])))
        assert all((made.net.state_dict()[name] == t).all() for name, t in published.stored.weights.items())
    assert registry.tags(f"{result['model']}@best", uri)["objective"] == "adversarial"
