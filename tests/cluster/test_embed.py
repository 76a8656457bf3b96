"""`stillhouse embed`: the network is the store's expert where there is one, else one trained now."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from support import small
from support.cli import TINY, stillhouse

from cluster.cli.embed import network_of
from cluster.jobs import distilling
from cluster.jobs.experts import own_set, spec_of
from cluster.results.runs import Run
from cluster.store import open_store
from cluster.trajectories import ExpertRecord
from distill import context as contexts
from distill import recipe, rng, synthetic
from distill.errors import TrajectoryError
from distill.published import write
from distill.selectors import Evidence

RESULT = {"test_mean": 0.875, "test_std": 0.01, "test_n": 5}


@pytest.fixture
def context():
    return contexts.prepare(recipe.load("digits", [*TINY, "experts.epochs=4"]), device=torch.device("cpu"))


@pytest.fixture
def url(tmp_path) -> str:
    return f"file:{tmp_path}/store"


def publish(context, url: str, folder) -> str:
    """A finished run in the store, its set real images; its id."""
    made = synthetic.build(context)
    x, y = small.plain(made)
    state = {name: t.detach() for name, t in made.state_dict().items()}
    pixels = context.data.preprocess.to_pixels(x)
    values = context.recipe.model_dump(mode="json")
    run = Run(open_store(url), context.run_id)
    published = small.published(x, y, pixels, context.data.classes, 0.1, values, 1, state)
    run.publish(write(published, folder), RESULT)
    return context.run_id


def write_expert(context, url: str) -> torch.Tensor:
    """One expert of the recipe in the store; its last snapshot."""
    experts, spec = own_set(context, url), spec_of(context)
    epochs = len(spec.epochs)
    theta = torch.stack([context.network.init(rng.generator(i, "expert")) for i in range(epochs)])
    experts.write_expert(spec, ExpertRecord(0, theta, [0.5] * epochs, [0.25] * epochs, 0))
    experts.seal(spec, 1)
    return theta[-1]


@pytest.mark.parametrize("init, looks", [("herding", True), ("real", False)])
def test_a_start_that_looks_through_a_network_looks_through_the_stores_expert(url, init, looks):
    """Whatever the objective; its features are the same there as in an evaluation."""
    overrides = [*TINY, "objective={}", "objective.kind=distribution", f"synthetic.init={init}"]
    values = [s for s in overrides if not s.startswith(("objective.syn", "objective.max"))]
    made = recipe.load("digits", values)
    context = contexts.prepare(made, device=torch.device("cpu"))
    config = {"recipe": made.model_dump(mode="json"), "store": url, "dataset": context.data}
    assert distilling.context_with_experts(config, torch.device("cpu")).experts is None
    theta = write_expert(context, url)
    found = distilling.context_with_experts(config, torch.device("cpu"))
    assert (found.experts is not None) is looks
    if looks:
        assert torch.equal(Evidence(found).features, context.network.features(theta, context.data.train.x))
        found.experts.close()


def test_the_last_snapshot_of_the_stores_expert_is_taken(context, url):
    theta = write_expert(context, url)
    found = network_of(context, url)
    assert torch.equal(found.theta, theta)
    assert (found.epochs, found.test_accuracy) == (4, 0.25)
    assert context.recipe.experts_name(context.data.fingerprint) in found.origin


def test_a_named_set_that_is_missing_is_not_replaced_by_a_network_trained_here(context, url):
    named = context.recipe.objective.model_copy(update={"trajectories": "theirs"})
    other = replace(context, recipe=context.recipe.model_copy(update={"objective": named}))
    with pytest.raises(TrajectoryError, match="theirs"):
        network_of(other, url)


def test_without_experts_one_is_trained(context, url):
    found = network_of(context, url)
    assert found.epochs == 4 and "trained here" in found.origin and found.test_accuracy > 0.15


def test_the_command_draws_the_run_and_writes_its_places(context, url, tmp_path, monkeypatch, capsys):
    run_id = publish(context, url, tmp_path / "published")
    write_expert(context, url)
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    out, figures = tmp_path / "map.png", tmp_path / "map.json"
    arguments = ("embed", run_id, "--store", url, "--images", "60", "--classes", "3")
    assert stillhouse(monkeypatch, *arguments, "--out", str(out), "--json", str(figures)) == 0
    with Image.open(out) as image:
        assert image.width > 800
    found = json.loads(figures.read_text())
    assert found["classes"] == ["0", "1", "2"] and found["test_accuracy"] == 0.25
    assert [p["synthetic"] for p in found["points"]] == [False] * 60 + [True] * 3
    assert stillhouse(monkeypatch, "embed", "nothing-here", "--store", url) == 2
    assert "nothing-here" in capsys.readouterr().err
