"""Searchers: what they draw, and that a resumed sweep draws the same trials and none twice."""

import pytest

from cluster.store import open_store
from distill import context as contexts
from distill import order as ordering
from tune import schedulers, searchers, watching
from tune.journal import DIVERGED, FINISHED, STOPPED, End, Journal, Judgement, SweepTrial
from tune.reading import load
from tune.searchers import GridDraws, JournalSearcher, OptunaDraws, RandomDraws, values_of

SEARCH = """
[search]
"outer.lr_img" = { kind = "loguniform", low = 0.1, high = 10.0 }
"objective.syn_steps" = { kind = "choice", values = [5, 10, 20] }
"objective.max_start_epoch" = { kind = "integer", low = 1, high = 5 }
"""


@pytest.fixture
def load_plan(tmp_path):
    (tmp_path / "s.toml").write_text('recipe = "digits"\n' + SEARCH)
    return lambda *overrides: load(str(tmp_path / "s.toml"), list(overrides))


@pytest.fixture
def journal(tmp_path):
    return Journal(open_store(f"file:{tmp_path}/store"), "s-0123")


def report(step: int, accuracy: float, **values) -> Judgement:
    return Judgement(step, accuracy, step, accuracy, 0.5, 640, 1.0, "run", values)


def drive(searcher: JournalSearcher, goodness, most: int = 100) -> list[dict]:
    """Ask for trials one after another and say how they did, as Ray Tune would.

    `goodness` makes an accuracy of a trial's values, or several metrics by name.
    """
    configs = []
    for i in range(most):
        config = searcher.suggest(f"id{i}")
        if config == searcher.FINISHED:
            break
        configs.append(config)
        good = goodness(config["values"])
        result = {"number": config["number"], "step": 160, "status": "finished", "message": "", "seconds": 1.0}
        result |= {"validation_accuracy": 0.5, "loss": 0.1, "budget_floats": 640}
        result |= good if isinstance(good, dict) else {"validation_accuracy": good}
        searcher.on_trial_complete(f"id{i}", result)
    return configs


def searcher_of(plan, journal, past=()) -> JournalSearcher:
    scheduler = schedulers.build(plan)
    return JournalSearcher(plan, journal, searchers.build(plan, list(past), context=None), scheduler, list(past))


def test_random_points_depend_on_seed_and_number_alone(load_plan):
    one, other = RandomDraws(load_plan().sweep), RandomDraws(load_plan().sweep)
    assert [one.point(i) for i in range(5)] == [other.point(i) for i in (0, 1, 2, 3, 4)]
    drawn = [values_of(load_plan().sweep.search, one.point(i)) for i in range(300)]
    assert {d["objective.syn_steps"] for d in drawn} == {5, 10, 20}
    assert {d["objective.max_start_epoch"] for d in drawn} == {1, 2, 3, 4, 5}
    below = sum(d["outer.lr_img"] < 1 for d in drawn)
    assert 120 < below < 180, "half of a logarithmic range from 0.1 to 10 is below 1"


def test_a_grid_visits_every_combination_once(load_plan, tmp_path):
    text = '[search]\n"outer.steps" = { kind = "grid", values = [7, 9] }\n'
    text += '"objective.max_start_epoch" = { kind = "integer", low = 1, high = 3 }\n'
    (tmp_path / "grid.toml").write_text('recipe = "digits"\n[searcher]\nkind = "grid"\n' + text)
    sweep = load(str(tmp_path / "grid.toml")).sweep
    draws = GridDraws(sweep)
    assert sweep.trials() == 6
    drawn = [tuple(values_of(sweep.search, draws.point(i)).values()) for i in range(6)]
    assert drawn == [(7, 1), (7, 2), (7, 3), (9, 1), (9, 2), (9, 3)]


@pytest.mark.parametrize(
    ("metric", "sign", "settings"),
    [
        ("validation_accuracy", 1, []),
        ("loss", -1, ["metric=loss"]),
        ("validation_accuracy", 1, ["searcher.tradeoff=true"]),
        ("budget_floats", -1, ["searcher.tradeoff=true"]),
    ],
)
def test_optuna_gets_every_metric_with_its_sign(load_plan, journal, metric, sign, settings):
    """The metric alone tells how near a trial is to the bottom of a bowl: later trials are nearer than random ones."""

    def nearness(values):
        return -abs(values["outer.lr_img"] - 3) - (values["objective.syn_steps"] != 10)

    plan = load_plan("budget.trials=60", "scheduler.kind=none", *settings)
    configs = drive(searcher_of(plan, journal), lambda values: {metric: sign * nearness(values)})
    late = [nearness(c["values"]) for c in configs][30:]
    draws = RandomDraws(plan.sweep)
    chance = [nearness(values_of(plan.sweep.search, draws.point(i))) for i in range(60)][30:]
    assert sum(late) / 30 > sum(chance) / 30 + 0.5


def test_trials_are_recorded_before_they_start_and_end_at_the_budget(load_plan, journal):
    configs = drive(searcher_of(load_plan("budget.trials=7"), journal), lambda v: 0.5)
    assert [c["number"] for c in configs] == list(range(7))
    assert [t.values for t in journal.trials()] == [c["values"] for c in configs]


def test_a_resumed_sweep_runs_unfinished_trials_then_new_ones(load_plan, journal):
    plan = load_plan("budget.trials=6", "scheduler.kind=none")
    first = drive(searcher_of(plan, journal), lambda v: 0.5, most=4)
    journal.report(1, report(20, 0.4, **{"outer.lr_img": 2.5}))
    for number in (0, 2):
        journal.report(number, report(160, 0.5))
        journal.end(number, End(FINISHED, 160))
    again = searcher_of(plan, journal, journal.trials())
    configs = drive(again, lambda v: 0.5)
    assert [c["number"] for c in configs] == [1, 3, 4, 5]
    assert configs[0]["values"] == {"outer.lr_img": 2.5}, "pbt may have changed them since they were drawn"
    assert configs[1]["values"] == first[3]["values"]
    drawn = [str(t.values) for t in journal.trials()]
    assert len(set(drawn)) == 6, "a resumed sweep draws new points"


def test_tpe_learns_from_trials_of_an_earlier_command(load_plan):
    sweep = load_plan().sweep
    draws = RandomDraws(sweep)
    past = []
    for i in range(40):
        point = draws.point(i)
        values = values_of(sweep.search, {**point, "objective.syn_steps": point["objective.syn_steps"]})
        good = 1 - abs(values["outer.lr_img"] - 3) / 10
        index = {5: 0, 10: 1, 20: 2}[values["objective.syn_steps"]]
        past.append(
            SweepTrial(i, {**point, "objective.syn_steps": index}, values, [report(160, good)], End(FINISHED, 160))
        )
    searcher = OptunaDraws(sweep, past)
    for trial in past:
        searcher.result(trial.number, searchers.metrics_of(trial))
    rates = [searcher.point(40 + i)["outer.lr_img"] for i in range(10)]
    assert sum(1.5 < rate < 6 for rate in rates) >= 7, rates


def test_failed_trials_do_not_count(load_plan, journal):
    plan = load_plan("budget.trials=3")
    searcher = searcher_of(plan, journal)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"status": DIVERGED, "step": 3, "message": "NaN", "seconds": 1.0, "number": 0})
    assert searcher.trials[0].status == DIVERGED and searcher.trials[0].score("validation_accuracy") is None
    searcher.suggest("b")
    stopped = {
        "status": "running",
        "step": 20,
        "validation_accuracy": 0.3,
        "loss": 1.0,
        "budget_floats": 1,
        "number": 1,
    }
    searcher.on_trial_complete("b", stopped)
    assert journal.trials()[1].end.status == STOPPED
    searcher.suggest("c")
    searcher.on_trial_complete("c", error=True)
    assert journal.trials()[2].end.status == "failed" and "killed" in journal.trials()[2].end.message


def test_a_trial_that_the_budget_ended_continues_with_more(load_plan, journal):
    plan = load_plan("budget.trials=1", "budget.steps=10")
    searcher = searcher_of(plan, journal)
    searcher.suggest("a")
    limits = watching.Limits(plan, [], searcher.end_budget)
    limits("a", {"number": 0, "step": 9})
    assert not limits.stop_all() and not searcher.out_of_budget
    limits("a", {"number": 0, "step": 10})
    assert limits.stop_all() and searcher.out_of_budget
    searcher.on_trial_complete("a", {"status": "running", "step": 10, "number": 0})
    assert searcher.trials[0].status == "budget"
    again = searcher_of(load_plan("budget.trials=1"), journal, journal.trials())
    assert again.suggest("b")["number"] == 0


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_a_resumed_scheduler_stops_what_it_would_have_stopped(load_plan, journal, kind):
    """Four good trials of an earlier command make a bad one of this command stop at its first rung."""
    plan = load_plan(f"scheduler.kind={kind}", "scheduler.grace=20", "outer.evaluate_every=20")
    past = [SweepTrial(i, {}, {}, [report(20, 0.8), report(40, 0.9)], End(FINISHED, 160)) for i in range(4)]
    fresh, primed = schedulers.build(plan), schedulers.build(plan)
    for trial in past:
        schedulers.prime(primed, plan.sweep, f"past-{trial.number}", trial)
    decisions = []
    for scheduler in (fresh, primed):
        stub = schedulers._Stub("new")
        scheduler.on_trial_add(None, stub)
        decisions.append(
            scheduler.on_trial_result(schedulers._NoController, stub, {"step": 20, "validation_accuracy": 0.1})
        )
    assert decisions == ["CONTINUE", "STOP"]


def test_changed_values_stay_in_their_range(load_plan):
    space = load_plan().sweep.search
    changed = schedulers._clamped(
        space, {"outer.lr_img": 12.0, "objective.syn_steps": 5, "objective.max_start_epoch": 0}
    )
    assert changed == {"outer.lr_img": 10.0, "objective.syn_steps": 5, "objective.max_start_epoch": 1}


def test_orders_are_searched_and_resumed(tmp_path, journal):
    """The order searcher's grids arrive as recipe values, and a second command continues where the first ended."""
    items = ", ".join(map(str, range(10)))
    (tmp_path / "o.toml").write_text(
        'recipe = "poster-digits-05"\n[searcher]\nkind = "order"\nembedding = "mean-image"\n[scheduler]\n'
        f'kind = "none"\n[search]\n"synthetic.order" = {{ kind = "permutation", items = [{items}] }}\n'
    )
    plan = load(str(tmp_path / "o.toml"), ["budget.trials=8"])
    context = contexts.prepare(plan.base)

    def searcher(past):
        return JournalSearcher(plan, journal, searchers.build(plan, past, context), schedulers.build(plan), past)

    def goodness(values):
        return values["synthetic.order"].index(3) / 10

    straight = [c["values"]["synthetic.order"] for c in drive(searcher([]), goodness)]
    assert all(sorted(o) == list(range(10)) for o in straight) and len({str(o) for o in straight}) == 8
    first = sum(ordering.layout(ordering.distances(context.data.classes, "mean-image", context=context), 2, 5), [])
    assert straight[0] == first, "the search starts from PoCO's greedy order"
    for trial in journal.trials()[:5]:
        journal.report(trial.number, report(160, goodness(trial.values)))
        journal.end(trial.number, End(FINISHED, 160))
    past = journal.trials()[:5]
    again = drive(searcher(past), goodness)
    assert [c["values"]["synthetic.order"] for c in again] == straight[5:]


def test_a_trial_that_takes_over_another_keeps_its_number_and_its_range(tmp_path):
    (tmp_path / "p.toml").write_text(
        'recipe = "digits"\n[scheduler]\nkind = "pbt"\n[searcher]\nkind = "random"\n[search]\n'
        '"outer.lr_img" = { kind = "loguniform", low = 1.0, high = 10.0 }\n'
    )
    scheduler = schedulers.build(load(str(tmp_path / "p.toml")))
    configs = [{"number": n, "values": {"outer.lr_img": rate}} for n, rate in ((4, 1.5), (2, 9.9))]
    worse, better = (type("Stub", (), {"config": config})() for config in configs)
    drawn = [scheduler._get_new_config(worse, better)[0] for _ in range(40)]
    assert {config["number"] for config in drawn} == {4}
    rates = {config["values"]["outer.lr_img"] for config in drawn}
    assert len(rates) > 2 and min(rates) >= 1.0 and max(rates) == 10.0, "1.2 times 9.9 is brought back"
