"""Browsing the registry: names that mean a version, the best of several publishers, promotion, cards."""

import mlflow
import pytest
import torch
from support import small

from cluster.tracking import card, models, registry, versions
from cluster.tracking.run import connect
from distill.errors import StoreError
from distill.published import FILE

JUDGED = {"protocol": "mtt", "network": "convnet", "data_train": "a" * 64, "data_test": "b" * 64, "preprocess": "zca"}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return connect(f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db", create=True)


@pytest.fixture(scope="module")
def uri(client):
    return client.tracking_uri


def version(client, model: str, accuracy: float, **tags) -> int:
    """A version without files, which nothing here reads."""
    if not versions.exists(client, model):
        client.create_registered_model(model)
    tags = {"selection_accuracy": str(accuracy), **tags}
    return int(client.create_model_version(model, "file:///nowhere", tags=tags).version)


@pytest.fixture(scope="module")
def browsed(client):
    """Two models that one recipe made, one that another made, and one of an earlier version, named as its recipe."""
    version(client, "tiny-mtt-pixels-1ipc", 0.5, recipe="tiny", run_id="tiny-0123-10")
    version(client, "tiny-mtt-pixels-10ipc", 0.9, recipe="tiny", run_id="tiny-4567-10")
    version(client, "tiny-mtt-pixels-1ipc", 0.7, recipe="tiny", run_id="tiny-89ab-10")
    version(client, "tiny-mtt-pixels-1ipc", 0.8, recipe="other", run_id="other-0123-10")
    for name in ("tiny-mtt-pixels-1ipc", "tiny-mtt-pixels-10ipc"):
        versions.point_to_best(client, name)
    client.set_registered_model_alias("tiny-mtt-pixels-1ipc", "champion", "1")
    version(client, "old", 0.6, run_id="old-0123-10")
    client.set_registered_model_alias("old", "best", "1")
    return client


MEANT = {
    "tiny-mtt-pixels-1ipc": ("tiny-mtt-pixels-1ipc", 3),
    "tiny-mtt-pixels-1ipc@best": ("tiny-mtt-pixels-1ipc", 3),
    "tiny-mtt-pixels-1ipc@champion": ("tiny-mtt-pixels-1ipc", 1),
    "models:/tiny-mtt-pixels-1ipc@latest": ("tiny-mtt-pixels-1ipc", 3),
    "tiny-mtt-pixels-1ipc/2": ("tiny-mtt-pixels-1ipc", 2),
    "tiny": ("tiny-mtt-pixels-10ipc", 1),
    "models:/tiny@best": ("tiny-mtt-pixels-10ipc", 1),
    "tiny@latest": ("tiny-mtt-pixels-1ipc", 2),
    "tiny@champion": ("tiny-mtt-pixels-1ipc", 1),
    "tiny-89ab-10": ("tiny-mtt-pixels-1ipc", 2),
    "other@best": ("tiny-mtt-pixels-1ipc", 3),
    "old@best": ("old", 1),
    "old/1": ("old", 1),
}


@pytest.mark.parametrize("name", MEANT)
def test_a_model_a_recipe_or_a_run_means_a_version(browsed, name):
    found = versions.find(browsed, name)
    assert (found.name, int(found.version)) == MEANT[name]


def test_a_recipe_whose_model_had_its_name_means_the_best_of_old_and_new(client):
    version(client, "grown", 0.6)
    client.set_registered_model_alias("grown", "best", "1")
    version(client, "grown-mtt-pixels-1ipc", 0.5, recipe="grown")
    assert versions.find(client, "grown@best").name == "grown"
    version(client, "grown-mtt-pixels-1ipc", 0.7, recipe="grown")
    assert versions.find(client, "grown@best").name == "grown-mtt-pixels-1ipc"
    assert versions.find(client, "grown/1").name == "grown"


@pytest.mark.parametrize("name", ["tiny@none", "nothing", "tiny/1", "tiny-mtt-pixels-1ipc/9", "other@champion"])
def test_what_is_not_there_is_named_with_the_command_that_lists(browsed, uri, name):
    with pytest.raises(StoreError, match=f"model {name}: .*`stillhouse models list` shows"):
        models.version_of(name, uri)


def test_a_better_version_that_is_published_in_between_keeps_the_alias(client, monkeypatch):
    """The lesser publisher looked before the better one came, and sets the alias after it."""
    version(client, "raced", 0.5)
    change, calls = mlflow.MlflowClient.set_registered_model_alias, []

    def late(self, name, alias, number):
        calls.append(number)
        if len(calls) == 1:
            change(self, name, alias, str(version(client, "raced", 0.9)))
        change(self, name, alias, number)

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", late)
    assert int(versions.point_to_best(client, "raced").version) == 2
    assert int(client.get_model_version_by_alias("raced", "best").version) == 2
    assert [int(number) for number in calls] == [1, 2]


def test_an_alias_that_others_change_without_end_is_an_error(client, monkeypatch):
    version(client, "fought-over", 0.5)
    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", lambda *_: None)
    with pytest.raises(StoreError, match="fought-over: its alias best was changed"):
        versions.point_to_best(client, "fought-over")


def test_promotion_refuses_what_was_judged_otherwise_and_says_in_what(client, uri):
    version(client, "promoted", 0.5, **JUDGED)
    version(client, "promoted", 0.9, **JUDGED | {"network": "resnet", "data_test": "c" * 64})
    version(client, "promoted", 0.4, **JUDGED)
    version(client, "promoted", 0.8)

    def champion() -> int:
        return int(client.get_model_version_by_alias("promoted", "champion").version)

    chosen, former = models.promote("promoted/1", uri)
    assert (chosen.number, former, champion()) == (1, None, 1)
    with pytest.raises(models.PromotionRefused) as refused:
        models.promote("promoted/2", uri)
    text = str(refused.value)
    assert "network: resnet; champion: convnet" in text and f"data_test: {'c' * 64}" in text and "--force" in text
    assert "protocol" not in text and "data_train" not in text and champion() == 1
    with pytest.raises(models.PromotionRefused, match="protocol: unknown"):
        models.promote("promoted/4", uri)
    _, former = models.promote("promoted/3", uri)
    assert (former.number, champion()) == (1, 3)
    _, former = models.promote("promoted/2", uri, force=True)
    assert (former.number, champion()) == (3, 2)
    assert models.version_of("promoted@champion", uri).number == 2


def test_models_are_listed_with_their_versions_and_aliases(browsed, uri):
    found = {model.name: model for model in models.models(uri)}
    assert {"tiny-mtt-pixels-1ipc", "tiny-mtt-pixels-10ipc", "old"} <= found.keys() and sorted(found) == list(found)
    one = found["tiny-mtt-pixels-1ipc"]
    assert [v.number for v in one.versions] == [3, 2, 1]
    assert (one.at("best").number, one.at("champion").number, one.at("none")) == (3, 1, None)
    assert [model.name for model in models.models(uri, "10ipc")] == ["tiny-mtt-pixels-10ipc"]


def test_a_version_that_was_deleted_or_made_again_is_not_held(client, uri, tmp_path):
    version(client, "held", 0.5, **{registry.SHA256: "d" * 64})
    assert registry.holds("held", 1, "d" * 64, uri)
    assert not registry.holds("held", 1, "e" * 64, uri) and not registry.holds("held", 2, "d" * 64, uri)
    assert not registry.holds("gone", 1, "d" * 64, uri)
    assert not registry.holds("held", 1, "d" * 64, f"sqlite:///{tmp_path}/none.db")
    client.delete_registered_model("held")
    assert not registry.holds("held", 1, "d" * 64, uri)


# ---------------------------------------------------------------- cards

TAGS = {
    "test_mean": "0.9112", "test_std": "0.0071", "test_n": "5", "budget_bits": "20480", "budget_ipc": "1.0",
    "paper": "<img src=x onerror=alert(1)> | [a](javascript:alert(2))\n# heading", "student_lr": "None", **JUDGED,
}  # fmt: skip


def test_a_card_says_accuracy_budget_and_how_to_load_and_links_the_picture():
    text = card.of_version(TAGS, ("ant", "bee"), "tiny-mtt-pixels-1ipc", 3)
    assert text.startswith("**91.1 ± 0.7 %** on the test images (n=5), 1 image per class (2.56 kB)\n")
    assert 'load("models:/tiny-mtt-pixels-1ipc/3")' in text and "learned rate" not in text
    assert "(model-versions/get-artifact?path=artifacts%2Fimages.png&name=tiny-mtt-pixels-1ipc&version=3)" in text
    assert "| classes | 2: ant, bee |" in text and "| network | convnet |" in text


def test_the_page_of_a_run_starts_with_picture_accuracy_and_loading():
    """MLflow shows the first 100 pixels of it: a strip of 40 and two lines."""
    first, second, third, fourth, *_ = card.of_run(TAGS, ("ant",), "tiny", 3, "0123").splitlines()
    assert first == "![some of the distilled images](get-artifact?path=strip.png&run_uuid=0123)"
    assert second.startswith("**91.1 ± 0.7 %**") and third == '`distill.load("models:/tiny/3")`' and not fourth


def test_text_of_users_is_neither_markdown_nor_html():
    classes = ("<script>alert(3)</script>", "a|b", "![x](http://other)")
    text = card.of_version(TAGS, classes, "tiny", 1)
    assert "<img" not in text and "<script" not in text and "[a](" not in text and "\n# heading" not in text
    assert "![x]" not in text and "a\\|b" in text
    assert len(card.of_version(TAGS | {"protocol": "p" * 9000}, ("c" * 5000,) * 300, "tiny", 1)) <= 4900


@pytest.mark.parametrize(
    "n, shape, size",
    [(6, (1, 8, 8), (3 * 44 - 4, 40)), (6, (3, 20, 60), (3 * 124 - 4, 40)), (90, (3, 8, 8), (13 * 44 - 4, 40))],
)
def test_a_strip_has_an_image_of_each_class_as_far_as_there_is_room(n, shape, size):
    classes = max(3, n // 2)
    pixels = torch.linspace(0, 1, n)[:, None, None, None].expand(n, *shape).contiguous()
    y = torch.eye(classes)[torch.arange(n) * classes // n]
    row = card.strip(small.published(pixels, y, pixels, map(str, range(classes)), None, {}, 1, {}))
    assert row.size == size and row.size[0] <= card.STRIP[1]
    width = (row.size[0] + 4) // (3 if n == 6 else 13)
    for place in range(3):
        first = int((y.argmax(1) == place).int().argmax())
        assert abs(row.getpixel((place * width + 2, 20))[0] - round(255 * first / (n - 1))) <= 1


def test_a_registered_set_carries_its_card_and_the_model_that_of_the_best(tmp_path, monkeypatch):
    """And a set whose model was deleted is published again, in the same run, from the files in the store."""
    from cluster.jobs import distilling
    from cluster.jobs.distilling import open_tracker, publish, publish_again
    from cluster.results.runs import Run
    from cluster.store import open_store
    from distill.loop import Loop

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    context = small.context("distribution", "outer.steps=1", digits=100)
    run = Run(open_store(f"file:{tmp_path}/store"), context.run_id)
    tracker = open_tracker(context, {"tracking": uri, "run_id": run.run_id})
    loop = Loop(context, distilling.Reporter(run, tracker, lambda event: None))
    loop.run()
    publish(loop, run, tracker, lambda event: None)
    result, client = run.result(), connect(uri)
    name = result["model"]
    assert name == "digits-dm-pixels-2ipc"
    tags = client.get_model_version(name, "1").tags
    assert tags["recipe"] == "small" and tags["budget_bits"] == str(32 * 1280) and tags["seed"] == "3"
    assert (tags["data_train"], tags["data_test"]) == (context.data.parts["train"], context.data.parts["test"])
    assert {"stillhouse_version", "preprocess", "network", "protocol", "test_mean", "data", "method"} <= tags.keys()
    described = client.get_model_version(name, "1").description
    assert f"models:/{name}/1" in described and client.get_registered_model(name).description == described
    logged = client.get_run(tracker.run_id)
    assert "strip.png" in logged.data.tags["mlflow.note.content"].splitlines()[0]
    names = {file.path for file in client.list_artifacts(tracker.run_id)}
    assert {"recipe.json", "strip.png", "images.png"} <= names
    inputs = {i.tags[0].value: i.dataset for i in logged.inputs.dataset_inputs}
    assert inputs.keys() == {"training", "validation", "test"} and inputs["test"].digest == tags["data_test"][:36]
    params = logged.data.params
    assert params["objective.kind"] == "distribution" and "outer.momentum" not in params and len(params) < 40

    client.delete_registered_model(name)
    assert not registry.holds(name, 1, result["sha256"], uri)
    again = publish_again(context, run, uri)
    assert again == result == run.result() and registry.holds(name, 1, result["sha256"], uri)
    assert client.get_model_version(name, "1").run_id == tracker.run_id
    assert (registry.fetch(f"{name}@best", tmp_path / "got", uri) / FILE).is_file()


def test_a_resumed_run_is_judged_by_the_losses_of_all_its_steps(tmp_path, monkeypatch):
    from cluster.jobs import distilling
    from cluster.results.runs import Run
    from cluster.store import open_store
    from distill.errors import StopRequested
    from distill.loop import Loop

    uri, judged = f"sqlite:///{tmp_path}/mlflow.db", []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(distilling, "verdict", lambda recipe, losses, *rest: judged.append(losses) or [])
    context = small.context("distribution", "outer.steps=5", "outer.checkpoint_every=1", digits=100)
    run = Run(open_store(f"file:{tmp_path}/store"), context.run_id)
    for stop_after in (3, None):
        tracker = distilling.open_tracker(context, {"tracking": uri, "run_id": run.run_id})
        reporter = distilling.Reporter(run, tracker, lambda event: None)
        loop = Loop(context, reporter)
        reporter.stop = lambda loop=loop, after=stop_after: loop.done == after
        distilling.resume(loop, run, reporter)
        try:
            loop.run()
        except StopRequested:
            assert loop.done == stop_after
    distilling.publish(loop, run, tracker, lambda event: None)
    assert judged == [list(tracker.history("loss").values())] and len(judged[0]) == 5
