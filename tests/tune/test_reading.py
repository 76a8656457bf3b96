"""Sweeps are refused before a trial starts: unknown paths and values that recipes refuse are named, all at once."""

import pytest

from distill import recipe as recipes
from distill.errors import RecipeError
from tune import reading

HEAD = 'recipe = "digits"\n'
RATE = '"outer.lr_img" = { kind = "uniform", low = 1.0, high = 2.0 }\n'


def write(folder, text: str, name: str = "mine.toml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def refusal(folder, text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        reading.load(write(folder, text), list(overrides))
    return str(caught.value)


@pytest.mark.parametrize("name", reading.shipped())
def test_every_shipped_sweep_is_valid(name):
    plan = reading.load(name)
    assert plan.sweep.name == name and plan.sweep.about
    assert plan.sweep.recipe in recipes.shipped()


def test_nested_and_dotted_paths_are_the_same(tmp_path):
    dotted = reading.load(write(tmp_path, HEAD + "[search]\n" + RATE))
    nested = reading.load(write(tmp_path, HEAD + '[search.outer.lr_img]\nkind = "uniform"\nlow = 1.0\nhigh = 2.0\n'))
    assert dotted.sweep == nested.sweep
    assert dotted.sweep.name == "mine"


def test_all_faults_of_all_trials_are_named_at_once(tmp_path):
    said = refusal(
        tmp_path,
        HEAD
        + '[search]\n"objective.syn_stepz" = { kind = "choice", values = [2, 3] }\n'
        + '"objective.max_start_epoch" = { kind = "integer", low = 0, high = 30 }\n'
        + '"outer.optimizer" = { kind = "choice", values = ["sgd", "lion"] }\n',
    )
    assert "objective.syn_stepz: unknown key" in said
    assert "objective.max_start_epoch: Input should be greater than or equal to 1 (got 0)" in said
    assert "outer.optimizer" in said and "'lion'" in said
    assert "beyond experts.epochs = 30" in said and "objective.max_start_epoch = 30" in said
    assert said.count("syn_stepz") == 1


def test_combinations_of_values_that_are_valid_alone_are_named(tmp_path):
    said = refusal(
        tmp_path,
        HEAD
        + '[search]\n"objective.max_start_epoch" = { kind = "choice", values = [5, 28] }\n'
        + '"objective.expert_epochs" = { kind = "choice", values = [2, 3] }\n',
    )
    assert "(with objective.max_start_epoch = 28, objective.expert_epochs = 3)" in said
    assert said.count("beyond") == 1


def test_pairs_are_checked_if_there_are_too_many_combinations(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_COMBINATIONS", 3)
    text = HEAD + '[search]\n"objective.max_start_epoch" = { kind = "integer", low = 5, high = 28 }\n'
    text += '"objective.expert_epochs" = { kind = "integer", low = 2, high = 3 }\n' + RATE
    assert "objective.max_start_epoch = 28, objective.expert_epochs = 3" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ('metric = "test_accuracy"', "metric"),
        ("[overrides]\nevaluation.selection = 'best-on-test'", "never on the test images"),
        ("[budget]\ntrials = 0", "budget.trials"),
        ("[scheduler]\nkind = 'asha'\nfoo = 1", "scheduler.foo: unknown key"),
        ("[searcher]\nkind = 'grid'", "search.outer.lr_img has no list of values"),
        ("[searcher]\nkind = 'order'", "kind = permutation"),
        ("[scheduler]\nkind = 'pbt'\n[searcher]\nkind = 'optuna'\ntradeoff = true", "pbt needs searcher"),
        ("[overrides]\nouter.stepz = 3", "outer.stepz"),
    ],
)
def test_settings_that_make_no_sense_are_named(tmp_path, extra, named):
    top, _, tables = extra.partition("[")
    text = top + "\n" + HEAD + "[search]\n" + RATE + ("[" + tables if tables else "")
    assert named in refusal(tmp_path, text)


def test_pbt_changes_only_rates_of_the_outer_optimiser(tmp_path):
    text = HEAD + "[scheduler]\nkind = 'pbt'\n[searcher]\nkind = 'random'\n[search]\n" + RATE
    assert reading.load(write(tmp_path, text)).sweep.scheduler.kind == "pbt"
    said = refusal(tmp_path, text + '"synthetic.ipc" = { kind = "choice", values = [1, 2] }\n')
    assert "search.synthetic.ipc" in said


@pytest.mark.parametrize(
    "bad",
    [
        'kind = "uniform", low = 2.0, high = 1.0',
        'kind = "loguniform", low = 0.0, high = 1.0',
        'kind = "integer", low = 3, high = 3',
        'kind = "choice", values = []',
        'kind = "permutation", items = [1, 1]',
        'kind = "gaussian", mean = 0',
    ],
)
def test_impossible_distributions_are_named_by_their_path(tmp_path, bad):
    assert "search.outer.lr_img" in refusal(tmp_path, HEAD + "[search]\n" + f'"outer.lr_img" = {{ {bad} }}\n')


def test_overrides_reach_the_sweep_or_its_recipe(tmp_path):
    plan = reading.load(write(tmp_path, HEAD + "[search]\n" + RATE), ["budget.trials=3", "outer.steps=7"])
    assert plan.sweep.budget.trials == 3 and plan.base.outer.steps == 7


def test_a_table_with_a_kind_replaces_a_block(tmp_path):
    text = HEAD + "[overrides.objective]\nkind = 'unrolled'\nunroll = 9\nwindow = 4\n[search]\n"
    plan = reading.load(write(tmp_path, text + '"objective.window" = { kind = "choice", values = [2, 3] }\n'))
    assert plan.base.objective.kind == "unrolled" and plan.base.objective.unroll == 9


def test_paths_that_belong_together_are_drawn_together(tmp_path):
    line = '"objective.syn_steps, objective.expert_epochs" = { kind = "grid", values = [[5, 1], [10, 2]] }\n'
    plan = reading.load(write(tmp_path, HEAD + "[search]\n" + line))
    (path,) = plan.sweep.search
    objective = plan.recipe({path: [10, 2]}).objective
    assert (objective.syn_steps, objective.expert_epochs) == (10, 2)
    assert "one value for each" in refusal(tmp_path, HEAD + "[search]\n" + line.replace("[10, 2]", "[10]"))


def test_a_table_is_a_value_of_a_whole_block(tmp_path):
    """As `stillhouse matrix` varies sets and objectives; each table replaces what the recipe has there."""
    tables = '[{ kind = "canvas", scale = 1.5 }, { kind = "unrolled", window = 5 }]'
    line = f'"synthetic, objective" = {{ kind = "grid", values = [{tables}] }}\n'
    plan = reading.load(write(tmp_path, HEAD + "[search]\n" + line))
    (values,) = plan.corners()
    made = plan.recipe(values)
    assert made.synthetic == recipes.Canvas(scale=1.5) and made.objective == recipes.Unrolled(window=5)
    nested = line.replace('"synthetic, objective"', '"synthetic.labels, objective"')
    assert "only a whole block" in refusal(tmp_path, HEAD + "[search]\n" + nested)


def test_a_recipe_beside_the_sweep_is_found(tmp_path, monkeypatch):
    write(tmp_path, 'name = "own"\n[dataset]\nkind = "digits"\n', "own.toml")
    source = write(tmp_path, 'recipe = "own.toml"\n[search]\n' + RATE)
    monkeypatch.chdir("/")
    assert reading.load(source).base.name == "own"


def test_a_missing_sweep_is_named():
    with pytest.raises(RecipeError, match="no sweep 'nothing'"):
        reading.load("nothing")
