"""What a job counts, under the names that Ray exports."""

import pytest
from support import small

from cluster.jobs import distilling, metrics
from cluster.jobs.growing import Grower
from cluster.results.runs import Run
from cluster.store import open_store
from distill.loop import Loop
from distill.objectives.base import Inner, Pass, Work


class Recorded:
    """Stands for Ray's metrics: the sum of a counter, the last value of a gauge, by name and run."""

    def __init__(self, monkeypatch):
        self.values: dict[tuple[str, str], float] = {}
        monkeypatch.setattr(metrics, "_metric", lambda name: self._of(name))

    def _of(self, name: str):
        values = self.values

        class One:
            def inc(self, amount, tags):
                assert name in metrics.COUNTERS
                values[name, tags["run"]] = values.get((name, tags["run"]), 0) + amount

            def set(self, value, tags):
                assert name in metrics.GAUGES
                values[name, tags["run"]] = value

        return One()

    def __getitem__(self, name: str) -> float:
        (value,) = [value for (known, _), value in self.values.items() if known == name]
        return value


@pytest.fixture
def recorded(monkeypatch) -> Recorded:
    return Recorded(monkeypatch)


class Tracker:
    """Takes what is logged."""

    def __getattr__(self, name):
        return lambda *_, **__: None


def test_the_images_of_a_step_are_those_of_the_inner_training_and_of_the_passes():
    inner = Inner(images=10, differentiated=20, plain=5, side_by_side=2, optimizer=None, augment=None)
    assert Work(3, inner, (Pass(7), Pass(4))).images == 3 * (10 * 25 * 2 + 11)
    assert Work(2, passes=(Pass(5),)).images == 10


@pytest.mark.parametrize("tracker, steps", [(Tracker(), 4), (None, 0)])
def test_a_loop_counts_steps_on_the_first_worker_and_images_on_all(recorded, tmp_path, tracker, steps):
    context = small.context("distribution", "outer.steps=4", "outer.evaluate_every=8", "outer.checkpoint_every=2")
    reporter = distilling.Reporter(Run(open_store(f"file:{tmp_path}"), context.run_id), tracker, lambda event: None)
    reporter.metrics.images_per_step = 11
    loop = Loop(context, reporter)
    if tracker is None:  # another worker than the first does nothing but its steps
        reporter.judged = reporter.picture = reporter.measured = reporter.save = lambda *_: None
    loop.run()
    assert recorded.values.get(("steps", context.run_id), 0) == steps
    assert recorded["images"] == 44


def test_a_judgement_a_checkpoint_and_its_bytes_are_recorded(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(metrics.time, "time", lambda: 1234.5)
    context = small.context("distribution", "outer.steps=2", "outer.evaluate_every=2", "outer.checkpoint_every=2")
    store = open_store(f"file:{tmp_path}")
    reporter = distilling.Reporter(Run(store, context.run_id), Tracker(), lambda event: None)
    loop = Loop(context, reporter)
    loop.run()
    assert recorded["judgement_accuracy"] == reporter.accuracy
    assert recorded["checkpoint_time_seconds"] == 1234.5
    assert recorded["written_bytes"] == sum(one.size for one in store.list())
    store.read(store.list()[0].key, 0, 100)
    reporter.step(3, {"loss": 0.0})
    assert recorded["read_bytes"] == 100
    reporter.step(4, {"loss": 0.0})
    assert recorded["read_bytes"] == 100


def test_experts_count_epochs_and_images(recorded, tmp_path):
    from cluster.jobs.experts import own_set, spec_of

    context = small.context("trajectory", "experts.epochs=5", "experts.count=2")
    experts = own_set(context, f"file:{tmp_path}")
    Grower(context, experts, spec_of(context)).grow(0)
    together = context.recipe.experts.together
    assert recorded["expert_epochs"] == 5 * together
    assert recorded["images"] == 5 * together * len(context.data.train)
    assert recorded["written_bytes"] > 0
