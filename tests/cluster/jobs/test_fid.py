"""FID of a run: kept in the store, on the run's page and in the version's tags and card, never without its features."""

import json

import pytest
from support import small

from cluster.jobs import fid as fids
from cluster.results.runs import Run
from cluster.store import open_store
from cluster.tracking import registry
from cluster.tracking.run import Tracker, connect
from distill.errors import ExpertsMissing, RecipeError
from distill.evaluate.fid import FID
from distill.loop import Loop, Watcher
from distill.published import write

MEASURED = FID(
    12.5, {"0": 10.0, "1": 30.0}, "expert 9 of convnet-12 after 30 epochs, convnet-d2-w32-instance", 100, 200
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A published run, registered as version 1 of `tiny`, and the uri of its tracking store."""
    place = tmp_path_factory.mktemp("fid")
    uri = f"sqlite:///{place}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        loop = Loop(small.context("distribution", "outer.steps=1"), Watcher())
        loop.run()
        files = write(loop.published(), place / "published")
        tracker = Tracker.open(uri, "distill", "tiny-1", "tiny-1", {}, {})
        registry.publish(tracker, "tiny", place / "published", {"selection_accuracy": 0.5, "selection": "validation"})
        run = Run(open_store(f"file:{place}/store"), "tiny-1")
        run.publish(files, {"model": "tiny", "version": 1})
        yield run, uri, tracker


def test_figures_are_kept_with_the_run(run):
    fids.keep(run[0], MEASURED, 0.7)
    fids.keep(run[0], MEASURED, 0.7)
    (entry,) = run[0].store.list("runs/tiny-1/fids/")
    kept = json.loads(run[0].store.read(entry.key))
    assert kept == {**MEASURED.as_dict(), "truncation": 0.7} and run[0].evaluations() == []


def test_metrics_tags_and_card_name_the_features(run):
    run, uri, tracker = run
    fids.track(run, run.published(), MEASURED, uri)
    metrics = connect(uri).get_run(tracker.run_id).data.metrics
    name = "expert-9-of-convnet-12-after-30-epochs-convnet-d2-w32-instance"
    assert (metrics[f"fid/{name}"], metrics[f"class_fid/{name}"]) == (12.5, 20.0)
    tags = registry.tags("tiny/1", uri)
    assert (tags["fid"], tags["class_fid"], tags["fid_features"]) == ("12.5", "20", MEASURED.features)
    client = connect(uri)
    for text in (client.get_model_version("tiny", "1").description, client.get_registered_model("tiny").description):
        assert "| FID | 12.5 |" in text and r"expert 9 of convnet\-12 after 30 epochs" in text


def test_a_run_without_page_or_version_is_left_alone(run):
    run, uri, _ = run
    published = run.published()
    fids.track(Run(run.store, "unknown"), published, MEASURED, uri)
    registry.note("gone", 3, {"fid": "1"}, published.classes, uri)


def test_choices(tmp_path):
    assert [fids.check(c) for c in ("experts", "random", "file:a b", "inception:x")]
    for wrong in ("", "file:", "Experts", "inception"):
        with pytest.raises(RecipeError, match="use experts, random, file:PATH or inception:PATH"):
            fids.check(wrong)


def test_experts_must_be_in_the_store(run, tmp_path):
    c = small.context("distribution", digits=200)
    published = run[0].published()
    with pytest.raises(ExpertsMissing, match="experts"):
        fids.measure(published, c.recipe, "experts", f"file:{tmp_path}", c.data)
