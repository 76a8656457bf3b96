"""A plan of real data: glanced at, timed for real, and runnable."""

import numpy as np
import pytest
from PIL import Image

from distill import nets, recipe
from distill import plan as planning
from distill.engine import compiling
from distill.errors import DataError, PlanError
from distill.loop import Loop, Watcher
from distill.plan import choose, nominal
from distill.plan.clock import Clock
from distill.plan.glance import Glance, glance


def photographs(folder, classes=3, each=12, size=(90, 70)):
    for label in range(classes):
        place = folder / f"class-{label}"
        place.mkdir(parents=True)
        for i in range(each):
            pixels = np.random.default_rng(label * 100 + i).integers(0, 255, (size[1], size[0] + i % 2, 3), np.uint8)
            Image.fromarray(pixels).save(place / f"{i}.png")
    return recipe.Folder(path=str(folder))


def test_a_glance_counts_images_and_finds_their_side(tmp_path):
    seen = glance(photographs(tmp_path / "photos"))
    assert (seen.classes, seen.channels, seen.side, seen.alike) == (3, 3, 70, False)
    assert seen.images == round(36 * 0.75)
    digits = glance(recipe.Digits())
    assert (digits.images, digits.classes, digits.channels, digits.side, digits.alike) == (1437, 10, 1, 8, True)


def test_a_folder_without_readable_images_is_refused_with_the_first_fault(tmp_path):
    settings = photographs(tmp_path / "photos", each=2)
    for file in (tmp_path / "photos").rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match="none of the first .* can be read"):
        glance(settings)


@pytest.mark.parametrize("objective", ["trajectory", "distribution"])
def test_everything_is_timed_without_experts_or_data(objective):
    facts = planning.Facts({"kind": "digits"}, (1, 8, 8), (20,) * 4, 40)
    draft = planning.choose.draft(facts, 4, 1, objective, "small")
    clock = Clock(draft, facts.shape, facts.counts)
    step, image = clock.judgement(2)
    assert clock.outer_step() > 0 and clock.expert_epoch(80, 40) > 0 and step > 0 and image >= 0


def test_the_plan_is_a_recipe_that_runs(monkeypatch):
    speeds = planning.Speeds(1, 0.5, {"trajectory": 0.2, "distribution": 0.1}, {2: 0.01, 5: 0.02}, {2: 1e-4, 5: 2e-4})
    monkeypatch.setattr(planning, "_speeds", lambda drafts, facts: speeds)
    made, again = (planning.plan(recipe.Digits(limit=400), 600, 1, "mine", 2) for _ in range(2))
    assert made.recipe == again.recipe  # the same measurements, the same plan
    assert made.recipe.objective.kind == "trajectory" and made.recipe.network.depth == 2
    table = made.recipe.model_dump(mode="json")
    assert recipe.parse(table, "again") == made.recipe
    table["objective"] = {"kind": "distribution"}
    table["outer"] |= {"steps": 1, "evaluate_every": 1}
    table["evaluation"] |= {"steps": [2], "networks": 1, "selection_networks": 1}
    from distill import context

    assert Loop(context.prepare(recipe.parse(table, "short")), Watcher()).run().score > 0


def test_images_per_class_are_limited_by_the_smallest_class(tmp_path, monkeypatch):
    speeds = planning.Speeds(1, 9.0, {"trajectory": 9.0, "distribution": 0.1}, {2: 0.01, 5: 0.02}, {2: 0, 5: 0})
    monkeypatch.setattr(planning, "_speeds", lambda drafts, facts: speeds)
    made = planning.plan(photographs(tmp_path / "photos"), 600, 50, "photos", 2)
    assert made.recipe.synthetic.ipc == min(made.facts.counts) < 12
    assert made.recipe.dataset.size == made.chosen.size in (32, 64)
    assert made.recipe.objective.kind == "distribution"


SHAPES = [(c, side, classes, each) for c, side in ((1, 8), (1, 28), (3, 32), (3, 64), (3, 128), (3, 224))
          for classes, each in ((2, 20), (10, 500), (200, 500), (10, 5000))]  # fmt: skip


@pytest.mark.parametrize("channels, side, classes, each", SHAPES)
def test_defaults_without_a_clock_are_sensible_for_every_shape(monkeypatch, channels, side, classes, each):
    """The papers' depth, images no larger than they are, and an hour by the nominal speeds if there are not
    very many of them."""
    seen = Glance(classes * each, classes, channels, side, True)
    monkeypatch.setattr(planning, "glance", lambda settings, notice: seen)
    settings = recipe.Folder(path="photos")
    monkeypatch.setattr(planning, "_facts", lambda s, seen, size, *rest: planning._guess(s, seen, size))
    made = nominal.planned(settings, 1, "mine", "cpu")
    r, size = made.recipe, made.facts.shape[1]
    assert r.network.depth == choose.depth(size) and size <= side and (side > 48 or size == side)
    assert made.seconds <= 3600 * (1 if classes * each <= 5000 else 16)
    assert made.fit.seconds <= made.seconds and r.outer.steps >= choose.STEPS[r.objective.kind][0]
    assert r.experts_needed <= choose.MOST_EXPERTS


def test_nominal_speeds_grow_with_the_network_and_the_data():
    facts = [choose.Facts({"kind": "digits"}, (3, 32, 32), (n,) * 10, n) for n in (100, 1000)]
    drafts = [{o: choose.draft(facts[0], w, 1, o, "x") for o in choose.STEPS} for w in (32, 128)]
    pairs = ((drafts[0], facts[0]), (drafts[1], facts[0]), (drafts[0], facts[1]))
    small, wide, many = (nominal.speeds(*pair) for pair in pairs)
    assert wide.expert_epoch > 4 * small.expert_epoch and 9 < many.expert_epoch / small.expert_epoch < 11
    assert all(wide.outer[o] > small.outer[o] for o in choose.STEPS) and wide.test[5] > 4 * small.test[5]


def test_without_a_time_what_does_not_fit_into_an_hour_gets_more(monkeypatch):
    def slower(factor):
        outer = dict.fromkeys(choose.STEPS, factor)
        return lambda drafts, facts: choose.Speeds(1, 1e6, outer, {2: 0.01, 5: 0.02}, {2: 0, 5: 0})

    # the fewest steps are 100, of which compiling saves 35 %: 3,960 s and 65,060 s of outer steps
    for factor, hours in ((1, 1), (60, 2), (1000, 32)):
        monkeypatch.setattr(nominal, "speeds", slower(factor))
        assert nominal.planned(recipe.Digits(), 1, "mine", "cpu").seconds == 3600 * hours
    monkeypatch.setattr(nominal, "speeds", slower(1e6))
    with pytest.raises(PlanError, match="no run fits into 3840 min"):
        nominal.planned(recipe.Digits(), 1, "mine", "cpu")


def test_an_expert_of_a_worker_on_one_core_takes_twice_as_long_as_on_both():
    facts = choose.Facts({"kind": "digits"}, (3, 32, 32), (1000,) * 10, 100)
    drafts = {o: choose.draft(facts, 128, 1, o, "x") for o in choose.STEPS}
    network = nets.build(drafts["trajectory"].network, facts.shape, 10, False)
    one_pass = compiling.forward_flops(network, facts.shape) * 10_000 / compiling.FLOPS_PER_SECOND
    assert nominal.speeds(drafts, facts).expert_epoch == pytest.approx(2 * 3 * one_pass)
