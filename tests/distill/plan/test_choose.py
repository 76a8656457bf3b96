"""Rules of a plan, from made-up speeds: what fits, what is preferred, what is refused."""

import pytest

from distill.errors import PlanError
from distill.plan import Plan, Tried, choose, words
from distill.plan.choose import Facts, Speeds
from distill.plan.glance import Glance

TABLE = {"kind": "parquet", "path": "photos", "size": 64}
FACTS = Facts(TABLE, (3, 64, 64), (400,) * 10, 1000)
FAST = Speeds(
    threads=1, expert_epoch=2.0, outer={"trajectory": 0.5, "distribution": 0.3}, train={2: 0.01, 5: 0.02},
    test={2: 1e-4, 5: 2e-4},
)  # fmt: skip


def slower(factor: float) -> Speeds:
    return Speeds(
        FAST.threads,
        FAST.expert_epoch * factor,
        {k: v * factor for k, v in FAST.outer.items()},
        {k: v * factor for k, v in FAST.train.items()},
        {k: v * factor for k, v in FAST.test.items()},
    )


def fit(objective: str, seconds: float, speeds=FAST, facts=FACTS, ipc=1):
    return choose.fit(choose.draft(facts, 32, ipc, objective, "photos"), facts, speeds, seconds, 2)


@pytest.mark.parametrize("seconds", [600, 1200, 3600, 14400])
@pytest.mark.parametrize("factor", [0.2, 1, 3])
@pytest.mark.parametrize("objective", ["trajectory", "distribution"])
def test_what_fits_takes_no_more_than_the_time(objective, factor, seconds):
    found = fit(objective, seconds, slower(factor))
    if found:
        assert choose.START < found.seconds < seconds
        assert found.recipe.outer.steps >= choose.STEPS[objective][0]


def test_more_time_buys_more_experts_and_steps_up_to_a_limit():
    fits = [fit("trajectory", seconds, slower(4)).recipe for seconds in (1800, 2700, 10**6)]
    experts, steps = ([f.experts.count for f in fits], [f.outer.steps for f in fits])
    assert experts == sorted(experts) and experts[-1] == choose.MOST_EXPERTS > experts[0] >= choose.FEWEST_EXPERTS
    assert steps == sorted(steps) and steps[-1] == choose.STEPS["trajectory"][2]


def test_too_little_time_fits_nothing_and_says_what_would():
    assert fit("trajectory", 120) is None and fit("distribution", 60) is None
    with pytest.raises(PlanError, match="give it more time, fewer images per class"):
        choose.refuse(60, ["64 px, width 32"])


def test_experts_are_not_trained_if_fewer_than_the_fewest_fit():
    slow = Speeds(1, 30.0, FAST.outer, FAST.train, FAST.test)  # an expert of 7 epochs takes three and a half minutes
    assert fit("trajectory", 1500, slow) is None and fit("trajectory", 3600, slow).recipe.experts.count >= 4
    assert fit("distribution", 1500, slow)


def test_a_short_run_is_judged_six_times():
    recipe = fit("distribution", 600).recipe
    judged = [0, *range(recipe.outer.evaluate_every, recipe.outer.steps + 1, recipe.outer.evaluate_every)]
    if recipe.outer.steps % recipe.outer.evaluate_every:
        judged.append(recipe.outer.steps)
    assert len(judged) == choose.JUDGEMENTS
    assert recipe.outer.checkpoint_every <= recipe.outer.evaluate_every


@pytest.mark.parametrize("side, blocks", [(8, 2), (28, 3), (32, 3), (64, 4), (128, 5), (256, 6)])
def test_depth_is_the_papers(side, blocks):
    assert choose.depth(side) == blocks


def test_images_are_never_enlarged_and_small_ones_are_kept():
    assert choose.ladder(28) == [(28, 32), (28, 64), (28, 128)]
    assert choose.ladder(64) == [(32, 32), (64, 32), (64, 64)]
    assert choose.ladder(300)[-1] == (256, 128)
    assert {size for size, _ in choose.ladder(300, forced=96)} == {96}


def test_grey_images_are_not_flipped():
    grey = Facts(TABLE, (1, 28, 28), (400,) * 10, 1000)
    recipe = choose.draft(grey, 32, 1, "distribution", "signs")
    assert "flip" not in recipe.objective.augment.strategies and "flip" not in recipe.evaluation.augment.strategies


def test_few_images_train_experts_for_more_epochs():
    few = Facts(TABLE, (3, 64, 64), (30,) * 5, 50)
    assert choose.draft(few, 32, 1, "trajectory", "few").experts.epochs == 30
    assert choose.draft(FACTS, 32, 1, "trajectory", "many").experts.epochs == 7


def test_affordable_is_the_inverse_of_compiled():
    for eager in (10, 119, 300, 5000):
        assert choose.affordable(choose.compiled(eager)) == pytest.approx(eager)


@pytest.mark.parametrize("objective", ["trajectory", "distribution"])
def test_ten_lines_name_every_choice(objective):
    found = fit(objective, 1800)
    tried = Tried(64, 32, {objective: found}, FAST)
    lines = dict(words.lines(Plan(found, FACTS, Glance(4000, 10, 3, 375, False), [tried], tried, 1800, 5)))
    assert 9 <= len(lines) <= 10 and ("experts" in lines) == (objective == "trajectory")
    assert "64 px" in lines["images"] and "375" in lines["images"] and "depth 4" in lines["network"]
    assert f"{found.recipe.outer.steps:,} steps" in lines["distill"] and "of 30 min" in lines["total"]
    assert "not 5" in lines["set"]
