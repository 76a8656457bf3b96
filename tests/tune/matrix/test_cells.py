"""The cells of a matrix: sized to one budget, refused with a reason, and a sweep of those that run."""

import pytest

from distill import recipe
from distill.context import Context, prepare
from distill.errors import RecipeError
from distill.objectives import unrolled
from tune.matrix import cells
from tune.matrix.cells import PATH

SETS, OBJECTIVES = cells.kinds(recipe.SyntheticSettings), cells.kinds(recipe.ObjectiveSettings)
TINY = ["network.depth=1", "network.width=4", "dataset.limit=300"]


@pytest.fixture(scope="module")
def context() -> Context:
    return prepare(recipe.load("digits", TINY))


def grid(context, sets=SETS, objectives=OBJECTIVES, budget=1.0, own=None):
    return cells.build(context, tuple(sets), tuple(objectives), budget, own or {})


def test_every_pair_of_the_unions_is_a_cell_that_runs_or_says_why_not(context):
    """Kinds join by being in a union."""
    made = grid(context, budget=10)
    assert [(c.set, c.objective) for c in made.cells] == [(s, o) for s in SETS for o in OBJECTIVES]
    for cell in made.cells:
        assert bool(cell.recipe) != bool(cell.refusal)
        if cell.recipe:
            assert (cell.recipe.synthetic.kind, cell.recipe.objective.kind) == (cell.set, cell.objective)
            assert 0 < cell.floats <= made.floats == 6400


def test_cells_store_as_much_as_the_budget_allows(context):
    made = grid(context, ["pixels", "canvas", "poster", "wang"], ["unrolled"], budget=10)
    assert [c.floats for c in made.cells] == [6400, 6400, 6400, 6280]
    assert [c.floats for c in grid(context, ["pixels", "poster"], ["unrolled"], budget=1.5).cells] == [
        640,
        950,
    ]  # 19x50: the shape of a poster is the paper's


def test_a_set_that_is_too_large_is_refused_with_the_reason(context):
    made = grid(context, ["pixels", "wang"], ["unrolled", "distribution"])
    assert [bool(c.refusal) for c in made.cells] == [False, False, True, True]
    assert all("9.81 images per class" in c.refusal and "raise the budget" in c.refusal for c in made.cells[2:])
    assert len(made.accepted) == 2


def test_a_pair_that_either_side_refuses_is_refused_with_its_words_alone(context, monkeypatch):
    own = {"unrolled": ["objective.window=300"]}
    (bad, good) = grid(context, ["pixels"], ["unrolled", "distribution"], own=own).cells
    assert bad.refusal == "objective.window = 300 is longer than objective.unroll = 200" and good.recipe

    def work(self, synthetic):
        raise RecipeError("objective.kind: a torus has no order")

    monkeypatch.setattr(unrolled.Objective, "work", work)
    (bad, good) = grid(context, ["canvas"], ["unrolled", "distribution"]).cells
    assert bad.refusal == "objective.kind: a torus has no order" and good.recipe


def test_nothing_but_refusals_is_an_error_with_all_reasons(context):
    with pytest.raises(RecipeError, match="no pair can run at 0.05") as caught:
        grid(context, budget=0.05)
    assert "smallest pixels" in str(caught.value) and "smallest canvas" in str(caught.value)


def test_settings_of_one_kind_reach_its_cells_alone(context):
    words = ["outer.steps=7", "unrolled:outer.lr_img=3", "canvas:synthetic.init=blend", "canvas:outer.momentum=0.1"]
    common, own = cells.split(words)
    assert common == ["outer.steps=7"]
    made = grid(context, ["pixels", "canvas"], ["unrolled", "trajectory"], own=own)
    rates = {(c.set, c.objective): (c.recipe.outer.lr_img, c.recipe.outer.momentum) for c in made.cells}
    assert rates == {
        ("pixels", "unrolled"): (3, 0.5), ("pixels", "trajectory"): (10, 0.5),
        ("canvas", "unrolled"): (3, 0.1), ("canvas", "trajectory"): (10, 0.1),
    }  # fmt: skip
    assert [c.recipe.synthetic.init for c in made.cells] == ["real", "real", "blend", "blend"]


def test_settings_of_the_outer_loop_for_all_cells_reach_all(context):
    """Also an objective that has its own defaults of the outer loop, which the recipe's give way to."""
    words = ["outer.lr_img=3", "outer.optimizer=sgd", "outer.steps=5000"]
    base = Context(recipe.load("digits", [*TINY, *words]), context.data, context.network, context.device)
    made = cells.build(base, ("pixels",), tuple(OBJECTIVES), 1.0, {"unrolled": ["outer.lr_img=4"]}, words)
    for cell in made.accepted:
        outer = cell.recipe.outer
        rate = 4 if cell.objective == "unrolled" else 3
        assert (outer.lr_img, outer.optimizer, outer.steps) == (rate, "sgd", 5000), cell.objective


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("canvass:synthetic.init=blend", "no set or objective 'canvass'"),
        ("canvas:dataset.limit=3", "cells may differ in synthetic, objective, outer, not in dataset"),
        ("unrolled:objective.windw=3", "unrolled has no setting 'windw'"),
    ],
)
def test_settings_of_a_kind_that_is_not_there_are_named(text, said):
    with pytest.raises(RecipeError, match=said):
        cells.split([text])


def test_a_url_is_no_kind():
    assert cells.split(["dataset.path=s3://bucket/a=b"]) == (["dataset.path=s3://bucket/a=b"], {})


def test_kinds_that_do_not_exist_are_named():
    assert cells.chosen("--sets", "canvas, pixels,canvas", recipe.SyntheticSettings) == ("canvas", "pixels")
    assert list(cells.chosen("--sets", None, recipe.SyntheticSettings)) == SETS
    with pytest.raises(RecipeError, match="--sets: no canvass; there are pixels"):
        cells.chosen("--sets", "canvass", recipe.SyntheticSettings)


def test_the_sweep_of_a_matrix_runs_the_accepted_cells_to_their_end(context):
    made = grid(context, own={"unrolled": ["outer.lr_img=3"]})
    plan = cells.plan(made, ["concurrency=2", "budget.hours=1"])
    sweep = plan.sweep
    assert (sweep.trials(), sweep.publish, sweep.scheduler.kind) == (len(made.accepted), "all", "none")
    assert (sweep.concurrency, sweep.budget.hours) == (2, 1)
    corners = list(plan.corners())
    assert [plan.recipe(values) for values in corners] == [c.recipe for c in made.accepted]
    assert [v[PATH][0]["kind"] for v in corners] == [c.set for c in made.accepted]


def test_a_matrix_chosen_on_the_test_images_is_refused(context):
    flattered = Context(recipe.load("digits", [*TINY, "evaluation.selection=best-on-test"]), context.data,
                        context.network, context.device)  # fmt: skip
    with pytest.raises(RecipeError, match="never on the test images"):
        cells.plan(grid(flattered, ["pixels"], ["unrolled"]))
