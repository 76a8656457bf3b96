"""`stillhouse drive`: what is driven, its figures, and what is refused; on a road that costs nothing."""

import io
import json
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support import small
from support.cli import stillhouse
from support.road import Road

from cluster.cli import drive as command
from cluster.jobs import driving
from cluster.jobs.driving import Plan, measure
from cluster.results.runs import Run
from cluster.store import open_store
from cluster.tracking.run import Tracker
from distill import recipe, synthetic, train
from distill.accuracy import accuracy
from distill.carracing.film import EVERY, Film
from distill.errors import RecipeError
from distill.evaluate.judge import Judge
from distill.published import write

LENGTH = 60
SHORT = ("evaluation.networks=2", "evaluation.epochs=6", "experts.epochs=3")


class Half:
    """An expert that is right on every second frame."""

    def __call__(self, world: Road) -> int:
        return world.right if world.frames % 2 == 0 else world.right - 1


@pytest.fixture
def context(monkeypatch):
    monkeypatch.setattr(driving, "Simulator", lambda track, size: Road(LENGTH, size, track))
    monkeypatch.setattr(driving, "Expert", Half)
    return small.context("distribution", *SHORT)


def plan_of(context, tmp_path, episodes: int = 3) -> Plan:
    made = synthetic.build(context)
    x, y = small.plain(made)
    state = {name: t.detach() for name, t in made.state_dict().items()}
    values = context.recipe.model_dump(mode="json")
    published = small.published(x, y, x.sigmoid(), context.data.classes, None, values, 1, state)
    return Plan(context, published, f"file:{tmp_path}/store", episodes)


def test_each_row_drives_the_same_tracks_and_is_compared_with_the_expert(context, tmp_path):
    plan, said = plan_of(context, tmp_path), []
    figures = measure(plan, said.append)
    rows = figures["rows"]
    assert list(rows) == ["expert", "distilled", "random", "full"]
    assert rows["expert"]["scores"] == pytest.approx([3 * LENGTH / 2 - LENGTH / 10] * 3) and rows["expert"]["n"] == 3
    assert "relative" not in rows["expert"] and len(set(plan.seeds)) == 3
    for row in ("distilled", "random", "full"):
        own = rows[row]
        assert own["mean"] == pytest.approx(statistics.mean(own["scores"]))
        assert own["std"] == pytest.approx(statistics.stdev(own["scores"]))
        assert own["relative"] == pytest.approx(own["mean"] / rows["expert"]["mean"])
        assert (own["n"], own["networks"]) == (3, 2)
    assert len(said) == 1 + 3 * 3
    # Network i mod 2 drives track i: the same by hand.
    networks, _ = driving.networks_of(plan, "distilled")
    by_hand = [
        driving.drive(Road(LENGTH, 8, track), driving.driver(context, networks[i % 2])).score
        for i, track in enumerate(plan.seeds)
    ]
    assert rows["distilled"]["scores"] == by_hand


def test_networks_are_the_judges(context, tmp_path):
    """On the set and on random frames, to the bit: their accuracies are those that the judge reports."""
    plan = plan_of(context, tmp_path)
    rows, c = measure(plan, lambda text: None)["rows"], context
    made = synthetic.restore(c, plan.published.state)
    score = Judge(c, 2).score(made, None, c.data.test, 2, "evaluate")
    assert rows["distilled"]["accuracy"] == pytest.approx(score.mean)
    assert rows["random"]["accuracy"] == pytest.approx(Judge(c, 2).random_real(2, c.data.test).mean)
    step = train.expert_step(c)
    *_, (_, theta) = train.expert_epochs(c, step, 0)
    networks, _ = driving.networks_of(plan, "full")
    assert len(networks) == 2 and torch.equal(networks[0].theta, theta)
    assert 0.3 < accuracy(step, theta, c.data.test) <= 1


def test_several_lengths_of_training_are_refused(context, tmp_path):
    several = recipe.override(
        context.recipe.model_dump(mode="json"), ["evaluation.steps=[2,4]", "evaluation.decay=none"], "x"
    )
    with pytest.raises(RecipeError, match=r"evaluation.steps = \[2, 4\]"):
        driving.networks_of(plan_of(replace(context, recipe=several), tmp_path), "distilled")


def test_figures_are_kept_beside_evaluations_and_in_mlflow(context, tmp_path, monkeypatch, capsys):
    plan, uri = plan_of(context, tmp_path), f"sqlite:///{tmp_path}/mlflow.db"
    run = Run(open_store(plan.store_url), "a-run")
    tracker = Tracker.open(uri, "distill", "a-run", "a-run", {}, {})
    figures = command.figures_of(plan, run, uri)
    assert driving.kept(run, plan) == json.loads(json.dumps(figures)) and run.evaluations() == []
    monkeypatch.setattr(driving, "measure", None)  # is not measured again
    assert command.figures_of(plan, run, uri)["rows"] == figures["rows"]
    metrics = tracker.client.get_run(tracker.run_id).data.metrics
    assert metrics == {f"drive/{row}": pytest.approx(own["mean"]) for row, own in figures["rows"].items()}
    assert [f.path for f in tracker.client.list_artifacts(tracker.run_id, "drives")] == ["drives/drive.json"]
    other = plan_of(context, tmp_path, episodes=4)
    assert driving.kept(run, other) is None
    capsys.readouterr()
    command.show("a-run", figures)
    said = capsys.readouterr().out
    assert "scripted driver" in said and "all training" in said
    assert f"{figures['rows']['distilled']['mean']:.0f} ± " in said


def test_a_set_of_other_images_is_refused(tmp_path, monkeypatch, capsys):
    c = small.context("distribution", digits=100)
    plan = plan_of(c, tmp_path)
    write(plan.published, tmp_path / "digits")
    assert stillhouse(monkeypatch, "drive", str(tmp_path / "digits"), "--store", plan.store_url) == 2
    said = capsys.readouterr().err
    assert 'a set of "digits" images' in said and 'dataset.kind = "carracing"' in said


def test_the_film_shows_what_is_seen_and_the_choice():
    x = torch.linspace(0, 1, 6)[:, None, None, None].expand(6, 3, 8, 8)
    film = Film(x, torch.eye(6), tuple("abcdef"))
    world = Road(4 * EVERY + 1)
    world.picture = np.zeros((96, 96, 3), np.uint8)
    driving.drive(world, film.watched(lambda world: 2), film)
    with Image.open(io.BytesIO(film.webp())) as image:
        assert image.n_frames == len(film.pictures) == 6 and image.format == "WEBP"
    first, later = (np.asarray(film.pictures[i]) for i in (0, 1))
    assert (first[:, :288] == 0).all()
    changed = np.abs(first.astype(int) - later.astype(int)).max(2) > 60
    rows, columns = changed[:260, 300:].nonzero()  # a frame around the third image: second row, first column
    assert 80 < rows.min() < 100 and rows.max() < 180 and columns.max() < 80
