"""Protocols: what each resolves to, that overrides win, and that trainings follow them step for step."""

import pytest
import torch
from support import small
from support.small import plain

from distill import recipe, rng
from distill.errors import RecipeError
from distill.evaluate import Judge, real_set
from distill.evaluate.score import Measured, headline
from distill.recipe import Evaluation


def resolved(*overrides: str) -> Evaluation:
    return recipe.load("digits", list(overrides)).evaluation


def test_protocols_are_the_papers():
    """MTT: 5 networks, 1000 epochs, SGD, momentum 0.9, wd 5e-4, batch 256, x0.1 at half; PoDD: 8 networks, Adam."""
    mtt, podd, thesis = Evaluation(), Evaluation(protocol="podd"), Evaluation(protocol="steps-1000")
    assert (mtt.networks, mtt.epochs, mtt.steps, mtt.optimizer, mtt.batch) == (5, 1000, (), "sgd", 256)
    assert (mtt.momentum, mtt.weight_decay, mtt.decay, len(mtt.augment.strategies)) == (0.9, 5e-4, "half", 6)
    assert (podd.networks, podd.optimizer, podd.lr, podd.learned_lr) == (8, "adam", 1e-3, False)
    assert (podd.steps, podd.decay, podd.augment.strategies) == ((300, 600, 1000, 2000), "none", ("flip", "rotate"))
    assert (thesis.lengths(10), thesis.lengths(5000)) == ((1000,), (1000,))
    assert mtt.lengths(600) == (3000,)  # 600 images are 3 batches of 256


@pytest.mark.parametrize(
    "overrides, label",
    [
        (["evaluation.epochs=1000", "evaluation.lr=0.3", "evaluation.networks=9"], "mtt"),
        (["evaluation.epochs=60"], "mtt, 60 epochs"),
        (["evaluation.protocol=podd"], "podd"),
        (["evaluation.protocol=podd", "evaluation.steps=[200]", "evaluation.bf16=true"], "podd, 200 steps, bfloat16"),
        (["evaluation.optimizer=adam", "evaluation.epochs=1000"], "mtt, adam"),
    ],
)
def test_a_figure_says_how_its_protocol_departs_from_the_papers(overrides, label):
    assert resolved(*overrides).label == label


def test_what_is_set_wins_over_the_protocol():
    e = resolved("evaluation.networks=3", "evaluation.protocol=podd", "evaluation.lr=0.5")
    assert (e.networks, e.lr, e.optimizer) == (3, 0.5, "adam")
    assert resolved("evaluation.protocol=podd", "evaluation.epochs=7").lengths(10) == (7,)
    assert resolved("evaluation.steps=[40]").lengths(10) == (40,)


def test_another_protocol_forgets_the_settings_of_the_one_before():
    """The digits recipe says 300 epochs; a stored recipe names every value."""
    stored = recipe.load("digits").model_dump(mode="json")
    assert stored["evaluation"]["epochs"] == 300
    e = recipe.override(stored, ["evaluation.protocol=podd"], "stored").evaluation
    assert e.model_dump(exclude={"selection_networks"}) == Evaluation(protocol="podd").model_dump(
        exclude={"selection_networks"}
    )
    back = recipe.override({**stored, "evaluation": e.model_dump(mode="json")}, ["evaluation.optimizer=sgd"], "stored")
    assert (back.evaluation.momentum, back.evaluation.weight_decay, back.evaluation.lr) == (0.9, 5e-4, 1e-3)


def test_a_stored_recipe_reads_back_as_it_was():
    r = recipe.load("digits", ["evaluation.protocol=podd", "evaluation.momentum=0"])
    assert recipe.override(r.model_dump(mode="json"), [], "stored") == r


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["evaluation.steps=[100,200]"], "decay"),
        (["evaluation.protocol=podd", "evaluation.steps=[200,100]"], "ascending"),
        (["evaluation.epochs=0"], "epochs or by steps"),
        (["evaluation.protocol=podd", "evaluation.momentum=0.9"], "SGD"),
        (["evaluation.protocol=none-such"], "podd"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides, says):
    with pytest.raises(RecipeError, match=says):
        resolved(*overrides)


def test_baselines_and_workers_make_no_other_run():
    base = recipe.load("digits")
    same = recipe.load("digits", ['evaluation.baselines=["herding"]', "evaluation.workers=3"])
    assert base.run_id("x") == same.run_id("x") != recipe.load("digits", ["evaluation.epochs=5"]).run_id("x")


def test_podd_is_adam_at_its_own_rate_and_stops_at_every_length():
    """Stations of one training by torch.optim.Adam; the rate the set carries is not used."""
    settings = ("evaluation.protocol=podd", "evaluation.steps=[2,5]", "evaluation.augment.strategies=[]")
    context = small.context("trajectory", *settings, "network.norm=none")
    images = real_set(context, 2, rng.generator(0, "images"))
    judge, key = Judge(context), ("key", "network", 0)
    thetas = list(judge._train(judge._batches([images], [key]), [key], 0.7, (2, 5)))
    flat = context.network.init(rng.generator(context.seed, *key)).requires_grad_()
    optimizer, (x, y) = torch.optim.Adam([flat], lr=1e-3), plain(images)
    for step in range(1, 6):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(context.network(flat, x), y).backward()
        optimizer.step()
        if step in (2, 5):
            assert torch.allclose(thetas[step == 5][0], flat, atol=1e-5)


def test_the_length_is_chosen_on_held_out_images_alone():
    """Other test labels change the figures, not the length; best-on-test says that it looks at the test images."""
    lengths = (10, 20, 30)
    measured = [
        Measured(lengths, (0.9, 0.5, 0.1), (0.2, 0.6, 0.5)),
        Measured(lengths, (0.8, 0.4, 0.3), (0.3, 0.4, 0.5)),
    ]
    score = headline(measured)
    assert (score.steps, score.values) == (20, (0.5, 0.4))  # means 0.25, 0.5, 0.5: the shorter of equals
    assert [s.values for s in score.by_steps.values()] == [(0.9, 0.8), (0.5, 0.4), (0.1, 0.3)]
    told = score.as_dict()
    assert told["steps"] == 20 and told["by_steps"]["30"]["mean"] == pytest.approx(0.2)


def test_the_judge_asks_the_held_out_part_or_the_test_part():
    for selection, part in (("validation", "validation"), ("best-on-test", "test")):
        context = small.context("trajectory", f"evaluation.selection={selection}")
        assert Judge(context)._selection_split(context.data.test) is getattr(context.data, part)


def test_the_judge_uses_bfloat16_only_where_it_is_asked_for():
    for asked in (False, True):
        context = small.context("trajectory", "objective.engine.bf16=true", f"evaluation.bf16={asked}".lower())
        context.network.bf16 = True
        assert Judge(context).network.bf16 is asked
