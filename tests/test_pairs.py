"""Every pair of a set and an objective, from estimate to a loaded set. A new kind joins by being in its union."""

from dataclasses import replace

import pytest
import torch
from support import small
from support.small import plain

from distill import load, objectives, recipe, synthetic
from distill.context import Context
from distill.cost.estimate import estimate
from distill.cost.memory import PeakMemory, outer_step_bytes
from distill.engine.inner import InnerStep
from distill.errors import RecipeError
from distill.evaluate import Judge
from distill.loop import Loop, Watcher
from distill.nets import Network
from distill.objectives import Work
from distill.published import write
from distill.published.forms import FORMS


def kinds(union) -> list[str]:
    return [settings.model_fields["kind"].default for settings in recipe.members(union)]


SMALLER = {"generator_xl": ["synthetic.stem_layers=3", "synthetic.per_class=2"]}
"""Settings of kinds that would take long as they are."""
SETS, OBJECTIVES = kinds(recipe.SyntheticSettings), kinds(recipe.ObjectiveSettings)


@pytest.fixture(params=[(s, o) for s in SETS for o in OBJECTIVES], ids="-".join)
def context(request) -> Context:
    """A run of the pair on a slice of the digits, four steps long."""
    kind, objective = request.param
    others = [] if kind == "pixels" else ["synthetic={}", f"synthetic.kind={kind}", *SMALLER.get(kind, [])]
    steps = ["outer.steps=4", "outer.evaluate_every=2", "outer.lr_img=0.1"]
    return small.context(objective, *steps, *others, digits=120)


def test_a_pair_is_estimated_distilled_published_loaded_and_judged(context, tmp_path):
    expected = estimate(context)
    assert expected.memory_bytes > 0 and expected.distill_seconds > 0 and expected.storage_bytes > 0

    loop = Loop(context, Watcher())
    start = {name: t.clone() for name, t in loop.synthetic.learned_state().items()}
    loop.run()
    after = loop.synthetic.learned_state()
    assert any(not torch.equal(start[name], t) for name, t in after.items()), "four steps move the set"

    published = loop.published()
    write(published, tmp_path)
    train = load(tmp_path)
    assert torch.equal(train.images, published.images) and torch.equal(train.labels, published.labels)
    assert train.stored.form in FORMS and train.classes == context.data.classes and train.lr == loop.selected.student_lr
    assert train.images.shape == (len(train), *context.data.shape) and (tmp_path / "images.png").stat().st_size > 100
    assert torch.allclose(train.labels.sum(1), torch.ones(len(train)), atol=1e-5)
    real = context.data.preprocess.to_pixels(context.data.test.x[:5])
    assert torch.allclose(train.preprocess(real), context.data.test.x[:5], atol=1e-5)

    again = synthetic.restore(context, train.state)
    assert all(torch.equal(a, b) for a, b in zip(plain(again), (train.images, train.labels), strict=True))
    score = Judge(context).score(again, train.lr, context.data.test, 1, "test")
    assert 0 <= score.mean <= 1


def test_a_pair_s_budget_work_and_groups_are_told(context):
    made, objective = synthetic.build(context), objectives.build(context)
    budget, work = made.budget(), objective.work(made)
    assert 0 < budget.total and budget.bytes >= budget.total and budget.bits_per_class(10) > 0
    assert isinstance(work, Work) and work.segments >= 1 and (work.inner or work.passes)
    moved = [p for g in made.parameter_groups(context.recipe.outer) for p in g.params]
    assert {id(p) for p in moved} == {id(p) for p in synthetic.learned_of(made)}


def test_images_and_labels_of_some_items_are_those_of_the_whole_set(context):
    """So an objective may render the items of a class alone."""
    made = synthetic.build(context)
    index, g = torch.arange(len(made)), torch.Generator()
    x, y = made.batch(index, g.manual_seed(0))
    some = index[1::2]
    assert x.shape == (len(made), *context.data.shape) and y.shape == (len(made), context.classes)
    assert torch.equal(made.labels(some), y[some]) and made.images(some, g.manual_seed(0)).shape == x[some].shape
    assert torch.equal(made.images(some, g.manual_seed(0)), made.images(some, g.manual_seed(0)))


def test_a_step_does_the_work_that_it_says(context, monkeypatch):
    """Engine, memory and time estimate read Work: it must be what happens."""
    counted = {"forward": [], "adjoint": [], "embedded": []}
    for name in ("forward", "adjoint"):
        real = getattr(InnerStep, name)
        monkeypatch.setattr(
            InnerStep,
            name,
            lambda self, state, x, *a, n=name, f=real: (counted[n].append(len(x)), f(self, state, x, *a))[1],
        )
    features = Network.features
    monkeypatch.setattr(
        Network, "features", lambda self, t, x, *a: (counted["embedded"].append(len(x)), features(self, t, x, *a))[1]
    )
    made, objective = synthetic.build(context), objectives.build(context)
    work = objective.work(made)
    objective.loss(made, 0, range(objective.segments)).backward()
    objective.after_step(made, 0)
    if work.inner:
        assert len(counted["adjoint"]) == work.segments * work.inner.differentiated
        assert max(counted["forward"]) == work.inner.images and len(counted["forward"]) >= len(counted["adjoint"])
    embedded = sum(p.images for p in work.passes if p.features)
    assert len(made) <= sum(counted["embedded"]) <= embedded if embedded else not counted["embedded"]


@pytest.mark.parametrize("name", recipe.shipped())
def test_every_pair_of_a_shipped_recipe_is_one_word_away(name):
    """No setting has to be repeated or dropped, in a recipe's file as in the resolved recipe that a result keeps."""
    resolved = recipe.load(name).model_dump(mode="json")
    for kind in SETS:
        for objective in OBJECTIVES:
            words = [f"synthetic.kind={kind}", f"objective.kind={objective}"]
            made = recipe.load(name, words)
            assert (made.synthetic.kind, made.objective.kind) == (kind, objective)
            assert recipe.override(resolved, words, name) == made
            back = [
                f"synthetic.kind={resolved['synthetic']['kind']}",
                f"objective.kind={resolved['objective']['kind']}",
            ]
            assert recipe.override(made.model_dump(mode="json"), back, name)


@pytest.mark.parametrize("kind", SETS)
def test_a_set_sizes_itself_for_a_budget(kind):
    """A larger budget never gives a smaller set, no set exceeds its budget, and one too small is refused."""
    made = small.context("distribution", f"synthetic.kind={kind}", digits=400)
    totals = []
    for floats in (64, 640, 2000, 6400, 13_000):
        try:
            settings = synthetic.sized(made, floats)
        except RecipeError as error:
            assert not totals and "more than the budget" in str(error)
            continue
        table = {**made.recipe.model_dump(mode="json"), "synthetic": settings.model_dump(mode="json")}
        try:
            built = synthetic.build(replace(made, recipe=recipe.parse(table, "sized")))
        except RecipeError:
            continue  # too few patches for the labels of a very small poster
        totals.append(built.budget().total)
        assert totals[-1] <= floats
    assert totals and totals == sorted(totals)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_workers_share_the_segments_and_students_may_be_trained_side_by_side(objective):
    settings = ["objective.segments=4", "outer.workers=2"]
    context = small.context(objective, *settings)
    assert objectives.build(context).work(synthetic.build(context)).segments == 2
    if isinstance(context.recipe.objective.engine_settings, recipe.Engine):
        context = small.context(objective, *settings, "objective.engine.vectorize=on")
        work = objectives.build(context).work(synthetic.build(context))
        assert work.inner.side_by_side == (2 if objective == "trajectory" else 1)


@pytest.mark.parametrize("segments", [1, 4])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_memory_of_an_outer_step_is_the_one_that_is_estimated(objective, segments):
    long = {"trajectory": ["objective.syn_steps=60"], "unrolled": ["objective.unroll=60", "objective.window=60"]}
    settings = [f"objective.segments={segments}", "synthetic.ipc=10", "network.width=16", *long.get(objective, [])]
    if objective in long:
        settings.append("objective.engine.memory=0")  # what is needed: what may be kept besides fills free memory
    context = small.context(objective, *settings)  # so long that the kept states of all segments are most of it
    made, built = synthetic.build(context), objectives.build(context)
    expected = outer_step_bytes(context, made, built.work(made))
    with PeakMemory() as memory:
        built.loss(made, 0, range(segments)).backward()
    assert 0.6 * memory.peak < expected < 2.5 * memory.peak
