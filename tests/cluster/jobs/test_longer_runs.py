"""A set distilled for longer continues from the checkpoint of the shorter run, and ends with the same bytes."""

from types import SimpleNamespace

import pytest
import torch
from support import small

from cluster.jobs import distilling, experts
from cluster.jobs.events import DistillingResumed
from cluster.results.runs import Run
from cluster.store import open_store
from distill.loop import Loop

EVERY = ("outer.evaluate_every=2", "outer.checkpoint_every=2")


class Reporter(distilling.Reporter):
    """Keeps checkpoints in the store; remembers what is posted."""

    def __init__(self, run):
        self.posted = []
        super().__init__(run, None, self.posted.append)

    def judged(self, step, score, best):
        pass

    def picture(self, step, pictures):
        pass

    def save(self, checkpoint):
        self.saved = self.run.save(checkpoint)


def distill(store, steps: int, *overrides: str) -> tuple[Loop, list]:
    context = small.context("trajectory", f"outer.steps={steps}", *EVERY, *overrides)
    run = Run(store, context.run_id)
    reporter = Reporter(run)
    loop = Loop(context, reporter)
    distilling.resume(loop, run, reporter)
    loop.run()
    return loop, [event for event in reporter.posted if isinstance(event, DistillingResumed)]


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_longer_run_continues_from_the_longest_shorter_one(tmp_path, one_thread):
    whole, none = distill(open_store(f"file:{tmp_path}/whole"), 6)
    store = open_store(f"file:{tmp_path}/parts")
    first, _ = distill(store, 2)
    second, (resumed,) = distill(store, 4)
    assert resumed == DistillingResumed(2, first.context.run_id)
    last, (resumed,) = distill(store, 6)
    assert none == [] and resumed == DistillingResumed(4, second.context.run_id)
    assert last.checkpoint().encode() == whole.checkpoint().encode()


def test_the_tracked_run_names_the_one_it_continues_and_has_its_best_figure(tmp_path):
    store = open_store(f"file:{tmp_path}/store")
    first, _ = distill(store, 2)
    context = small.context("trajectory", "outer.steps=4", *EVERY)
    reporter = Reporter(Run(store, context.run_id))
    tags, logged = {}, []
    reporter.tracker = SimpleNamespace(tag=tags.update, log=lambda step, metrics: logged.append((step, metrics)))
    loop = Loop(context, reporter)
    distilling.resume(loop, reporter.run, reporter)
    assert tags == {"stillhouse.continues": first.context.run_id}
    assert logged == [(loop.best.step, {"selection_accuracy": loop.best.score})]


def test_only_the_experts_that_a_recipe_needs_are_to_be_trained():
    labels = ("synthetic.labels.mode=expert", "experts.count=50")
    assert experts.needed_part(small.context("distribution", *labels)).recipe.experts.count == 10
    assert experts.needed_part(small.context("trajectory", *labels)).recipe.experts.count == 50


def test_experts_are_claimed_while_some_are_missing_and_not_after(tmp_path, monkeypatch):
    """Other commands on the set wait meanwhile; once it is whole a command leaves the store as it is."""
    url, context, trained = f"file:{tmp_path}/store", small.context("trajectory"), []
    (tmp_path / "store").mkdir()
    store, name = open_store(url), experts.own_set(context, url).name

    def complete(context, own, missing, *rest):
        assert store.list(f"claims/experts/{name}/") and missing == [0, 1]
        experts.train_here(context, url)
        trained.append(own.name)
        return 2

    monkeypatch.setattr(experts.group, "uses_gpu", lambda device: False)
    monkeypatch.setattr(experts, "_complete", complete)
    counts = [experts.train_experts(context, url, None, lambda event: None).new for _ in range(2)]
    keys = [entry.key for entry in store.list(f"claims/experts/{name}/")]
    experts.train_experts(context, url, None, lambda event: None)
    assert trained == [name] and counts == [2, 0]
    assert [entry.key for entry in store.list(f"claims/experts/{name}/")] == keys


def test_a_run_that_ends_between_two_judgements_leaves_no_trace_in_a_longer_one(tmp_path, one_thread):
    """The set at the end is judged too, which a run that goes further would not have done."""
    whole, _ = distill(open_store(f"file:{tmp_path}/whole"), 6)
    store = open_store(f"file:{tmp_path}/parts")
    odd, _ = distill(store, 5)
    assert odd.end is not None and whole.end is None
    last, (resumed,) = distill(store, 6)
    assert resumed.step == 5 and last.checkpoint().encode() == whole.checkpoint().encode()
    again, _ = distill(store, 5)
    assert again.selected.step == odd.selected.step and again.selected.score == odd.selected.score


def test_a_shorter_run_or_one_of_other_settings_starts_at_0(tmp_path):
    store = open_store(f"file:{tmp_path}/store")
    distill(store, 4)
    assert distill(store, 2)[1] == [] and distill(store, 6, "outer.lr_img=2")[1] == []


def test_a_run_of_its_own_name_does_not_take_up_another(tmp_path):
    """As the trials of a sweep that exchange checkpoints, whose ids end in their numbers."""
    store = open_store(f"file:{tmp_path}/store")
    loop, _ = distill(store, 2)
    run = Run(store, loop.context.run_id.rpartition("-")[0] + "-00007")
    reporter = Reporter(run)
    distilling.resume(loop, run, reporter)
    assert reporter.posted == []
