"""A GAN and GenDM from its weights by one command on real Ray: from one expert's features, both registered."""

import json
from dataclasses import replace

import pytest
import torch
from support.cli import stillhouse

from cluster.cli import distill
from cluster.jobs import registering
from cluster.results.runs import Run, run_ids
from cluster.store import open_store
from cluster.tracking import registry
from cluster.tracking.metrics import curves
from distill import context as contexts
from distill import recipe, synthetic
from distill.errors import RecipeError
from distill.loop import Loop, Watcher
from distill.published.forms import Sampler

QUICK = (
    "dataset.limit=300", "network.depth=1", "network.width=4", "experts.count=2", "experts.epochs=2", "threads=1",
    "outer.steps=2", "outer.evaluate_every=2", "outer.checkpoint_every=2", "outer.picture_every=2",
    "evaluation.epochs=2", "evaluation.networks=1", "evaluation.selection_networks=1",
)  # fmt: skip


GAN = tuple(
    f"synthetic.gan.{setting}"
    for setting in (
        "objective.features=experts", "objective.channels=4", "objective.batch_syn=20", "objective.batch_real=20",
        "outer.steps=6", "outer.evaluate_every=3", "outer.checkpoint_every=2", "outer.picture_every=3",
    )
)  # fmt: skip


@pytest.mark.ray
def test_a_gan_is_trained_registered_and_started_from_by_one_command(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path))
    for name in ("STILLHOUSE_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    command = ("distill", "gendm-digits", *QUICK, *GAN)
    assert stillhouse(monkeypatch, *command, "--json", str(tmp_path / "gendm.json")) == 0
    second, uri = json.loads((tmp_path / "gendm.json").read_text()), f"sqlite:///{tmp_path}/mlflow.db"
    store = open_store(f"file:{tmp_path}/store")
    (gan,) = [run for run in run_ids(store) if run.startswith("gan-")]
    result = Run(store, gan).result()
    published = Run(store, result["run_id"]).published()
    assert isinstance(published.stored, Sampler) and result["model"].startswith("digits-gan-generator-")
    assert len([e for e in store.list("experts/") if e.key.endswith(".arrow")]) == 1, "one expert is enough"
    logged = curves(uri, "distill", result["run_id"])
    assert [len(logged[m]) for m in ("distance_within_class", "discriminator_loss", "set_loss")] == [6, 6, 6]

    by_hand = Loop(contexts.prepare(recipe.load("gendm-digits", [*QUICK, start_of(tmp_path, gan)])), Watcher())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    by_hand.run()
    torch.set_num_threads(threads)
    published_by_hand, by_command = by_hand.published().state, Run(store, second["run_id"]).published().state
    assert second["step"] == by_hand.best.step and second["model"].startswith("digits-dm-generator-")
    assert all(torch.equal(published_by_hand[name], t) for name, t in by_command.items())
    assert registry.tags(f"{second['model']}@best", uri)["parent_run"] == gan

    start = start_of(tmp_path, gan)
    for kind in ("generator", "latents"):
        others = (f"synthetic.kind={kind}", start, "objective.kind=distribution")
        made = synthetic.build(contexts.prepare(recipe.load("digits", [*QUICK[:6], *others])))
        assert all((made.net.state_dict()[name] == t).all() for name, t in published.stored.weights.items())
    assert registry.tags(f"{result['model']}@best", uri)["objective"] == "adversarial"


def start_of(home, run_id: str) -> str:
    return f"synthetic.start=file:{home}/store/runs/{run_id}/published"


@pytest.mark.parametrize(
    "settings, parent",
    [
        (["synthetic.start=random"], None),
        (["synthetic.start=file:/a/store/runs/gan-1-6/published"], "gan-1-6"),
        (["synthetic.start=file:/a/runs/gan-1-6/published/synthetic.safetensors"], "gan-1-6"),
        (["synthetic.start=file:/a/published"], None),
        (["synthetic.start=file:set.safetensors"], None),
        (["synthetic={}"], None),
    ],
)
def test_a_version_names_the_run_that_it_started_from(settings, parent):
    loaded = recipe.load("gendm-digits", [*QUICK, *settings])
    context = contexts.prepare(recipe.load("gendm-digits", QUICK))
    assert registering.parent_run(replace(context, recipe=loaded)) == parent
    assert registering.parent_run(context) == context.before_id


def test_a_gan_that_is_in_the_store_is_not_trained_again_and_one_cut_short_is_the_start_of_a_shorter_run(
    tmp_path, monkeypatch
):
    context, url = contexts.prepare(recipe.load("gendm-digits", [*QUICK, *GAN])), f"file:{tmp_path}/store"
    given, ended = [], Run(open_store(url), context.before_id)

    def run(first, *places):
        given.append((first.run_id, first.data, places))
        return {"run_id": context.before_id.replace("-6", "-4")}

    monkeypatch.setattr(distill, "run", run)
    monkeypatch.setattr(distill, "show", lambda *shown: None)
    shorter, saved = distill._after_run_before(context, url, "tracking", "ray", 5.0, 100.0)
    assert given == [(context.before_id, context.data, (url, "tracking", "ray", 5.0, 40.0))]
    assert shorter.before_id == context.before_id.replace("-6", "-4") and saved.run_id == shorter.run_id
    assert shorter.run_id != context.run_id

    ended.publish([], {"run_id": ended.run_id})
    assert distill._after_run_before(context, url, "tracking", "ray", 0.0, None)[0] is context and len(given) == 1
    stages = ("synthetic={}", "synthetic.kind=generator_xl", "synthetic.start=gan", "synthetic.stem=8")
    more = ("dataset.size=16", "synthetic.size.channel_max=2")
    grows = replace(context, recipe=recipe.load("gendm-digits", [*QUICK, *stages, *more]))
    with pytest.raises(RecipeError, match="--within: a GAN that grows in several stages"):
        distill._after_run_before(grows, url, "tracking", "ray", 0.0, 100.0)
