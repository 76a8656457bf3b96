"""How failed trials end, what other trials learn of it, and which experts are trained before any trial."""

from types import SimpleNamespace

import pytest
from support import small
from support.boards import LocalBoard

from cluster.jobs.events import Saved
from cluster.jobs.group import Worker
from cluster.results.runs import Run
from cluster.store import open_store
from distill import context as contexts
from distill.cost import memory
from distill.errors import ConflictError, DivergedError, RecipeError, StopRequested
from distill.loop import Loop, Watcher
from tune import sweep, trial
from tune.journal import Journal
from tune.reading import load
from tune.trial import Attempt, Shared


class Tags:
    """Stands in for an MLflow run."""

    def __init__(self):
        self.tags, self.status = {}, None

    def tag(self, tags):
        self.tags |= tags

    def finish(self, status):
        self.status = status


class Notes:
    """Stands in for the Library actor; calls return at once."""

    def __init__(self, notes: dict[int, int]):
        self.notes = notes
        self.memory_notes = SimpleNamespace(remote=lambda: self.notes)
        self.ran_out = SimpleNamespace(remote=self.notes.__setitem__)


@pytest.fixture
def board() -> LocalBoard:
    return LocalBoard()


@pytest.fixture
def attempt(tmp_path, board, monkeypatch):
    """Attempts at trial 5 that have their context; call it with the memory notes of other trials."""
    monkeypatch.setattr(trial.ray, "get", lambda answer: answer)

    def start(notes: dict[int, int]) -> Attempt:
        shared = Shared("s-01", "s", {}, f"file:{tmp_path}/store", "", "", "loss", False, 1, False, Notes(notes), board)
        tried = Attempt(5, {"outer.lr_img": 1.0}, shared)
        tried.context, tried.tracker = small.context("trajectory"), Tags()
        return tried

    return start


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("[enforce] can't allocate memory: 9 bytes")])
def test_running_out_of_memory_is_marked_and_others_learn_the_estimate(attempt, error):
    tried, needed = attempt({}), memory.memory_bytes(small.context("trajectory"))
    end = tried.failed(error)
    assert (end.status, end.memory_bytes) == ("memory", needed)
    assert "out of memory while distilling" in end.message and "saves" in end.message
    assert tried.shared.library.notes == {5: needed}
    assert tried.tracker.status == "FAILED" and tried.tracker.tags["stillhouse.end"] == "memory"


def test_other_trials_are_tagged_with_it(attempt):
    tried = attempt({3: 2_000_000})
    tried._tag_memory()
    assert tried.tracker.tags == {"stillhouse.memory": "ran out of memory meanwhile: trial 3 (estimate 2 MB)"}


def test_a_trial_that_needs_no_less_is_not_started(attempt):
    needed = memory.memory_bytes(small.context("trajectory"))
    assert attempt({3: needed + 1})._too_large() == ""
    assert attempt({})._too_large() == ""
    refusal = attempt({3: 10 * needed, 4: needed})._too_large()
    assert refusal.startswith("not started") and "trial 4" in refusal


def test_nan_ends_a_trial_with_its_step(attempt):
    tried = attempt({})
    tried.loop = SimpleNamespace(done=16)
    end = tried.failed(DivergedError("NaN or Inf in x at step 17"))
    assert (end.status, end.step, end.message) == ("diverged", 17, "NaN or Inf in x at step 17")


def test_an_unforeseen_error_ends_one_trial_and_is_named(attempt):
    assert attempt({}).failed(KeyError("lost")).message == "KeyError: 'lost'"


def test_a_trial_that_is_asked_to_stop_saves_says_so_and_records_no_end(attempt, board, monkeypatch):
    """Ray Tune, which would take a return for an end and an exception for a fault, hears nothing of it."""
    tried, waited = attempt({}), []

    def run() -> None:
        tried.worker, tried.loop = Worker(5, 1, None, board), SimpleNamespace(done=12)
        raise StopRequested

    tried.run = run
    monkeypatch.setattr(trial, "Attempt", lambda *arguments: tried)
    monkeypatch.setattr(trial.tune, "report", lambda result: pytest.fail("reported"))

    def wait(event) -> None:
        waited.append(event)
        raise Killed  # as the end of the command does

    monkeypatch.setattr(trial.threading.Event, "wait", wait)
    monkeypatch.setattr(trial, "within", lambda seconds, call: call())
    with pytest.raises(Killed):
        trial.run_trial({"number": 5, "values": {}}, tried.shared)
    assert waited and tried.tracker.status == "KILLED" and "stillhouse.end" not in tried.tracker.tags
    assert board.board.events == [Saved("trial 5 after step 12")]
    assert tried.journal.trials() == [] and not tried.journal.store.list("")


class Killed(BaseException):
    """The process ends."""


def searching(tmp_path, lines: str, recipe: str = "digits"):
    (tmp_path / "s.toml").write_text(f'recipe = "{recipe}"\n[search]\n{lines}\n')
    return load(str(tmp_path / "s.toml"))


def sets(plan) -> int:
    return len({recipe.experts_id("data") for recipe in sweep.expert_recipes(plan)})


def test_a_trial_that_another_sweep_has_brought_to_its_end_keeps_that_checkpoint(attempt, tmp_path):
    """Its bytes may be of an older version, which would be refused as another run's."""
    tried = attempt({})
    loop = tried.loop = Loop(small.context("trajectory", "outer.steps=1", "outer.evaluate_every=1"), Watcher())
    loop.run()
    run = Run(open_store(f"file:{tmp_path}/store"), loop.context.run_id)
    older = loop.checkpoint()
    older.notes["version"] = 1
    key = run.save(older)
    reporter = trial.TrialReporter(run, tried)
    reporter.tracker, reporter.loop, reporter.resumed_at = Metrics(), loop, 1
    tried.report = lambda report: None
    reporter.report(1, 0.5)
    assert run.checkpoints() == [key] and run.latest().notes["version"] == 1
    reporter.resumed_at = 0
    with pytest.raises(ConflictError):
        reporter.report(1, 0.5)


class Metrics(Tags):
    def log(self, step, metrics):
        pass

    def flush(self):
        pass


def test_experts_that_no_value_changes_are_trained_once(tmp_path):
    assert sets(searching(tmp_path, '"objective.syn_steps" = { kind = "choice", values = [5, 10, 20] }')) == 1


def test_each_distinct_set_of_experts_is_trained_once(tmp_path):
    lines = '"experts.lr" = { kind = "choice", values = [0.01, 0.02] }\n'
    lines += '"network.width" = { kind = "integer", low = 4, high = 6 }\n'
    plan = searching(tmp_path, lines + '"outer.lr_img" = { kind = "uniform", low = 1.0, high = 2.0 }')
    assert sets(plan) == 6


def test_experts_of_a_range_are_left_to_the_trials(tmp_path):
    assert sets(searching(tmp_path, '"experts.lr" = { kind = "uniform", low = 0.01, high = 0.02 }')) == 0


def test_objectives_without_experts_train_none(tmp_path):
    line = '"outer.lr_img" = { kind = "uniform", low = 0.01, high = 0.02 }'
    assert sets(searching(tmp_path, line, "poster-digits-05")) == 0


def test_experts_that_only_some_trials_need_are_trained_first(tmp_path):
    """The first trial needs none, the second 10 for their answers as labels, the last all."""
    words = '"distribution", "hard"], ["distribution", "expert"], ["trajectory", "hard"'
    line = f'"objective.kind, synthetic.labels.mode" = {{ kind = "grid", values = [[{words}]] }}'
    plan = searching(tmp_path, line, "mtt-cifar10-1ipc")
    (needed,) = sweep.expert_recipes(plan)
    assert needed.objective.kind == "trajectory" and needed.experts_needed == plan.base.experts.count


def starts(plan) -> int:
    runs = [recipe.before.run_id("data") for recipe in plan.starts()]
    assert len(set(runs)) == len(runs), "a run is given twice"
    return len(runs)


def test_each_distinct_run_that_trials_start_from_is_known_beforehand(tmp_path):
    rate = '"outer.lr_img" = { kind = "uniform", low = 0.001, high = 0.002 }\n'
    assert starts(searching(tmp_path, rate)) == 0
    assert starts(searching(tmp_path, rate, "gendm-digits")) == 1
    steps = '"synthetic.gan.outer.steps" = { kind = "integer", low = 4, high = 6 }\n'
    assert starts(searching(tmp_path, rate + steps, "gendm-digits")) == 3
    start = '"synthetic.start" = { kind = "choice", values = ["random", "gan"] }\n'
    assert starts(searching(tmp_path, start + steps, "gendm-digits")) == 3


def test_infinitely_many_runs_to_start_from_are_refused(tmp_path):
    line = '"synthetic.gan.outer.lr_img" = { kind = "uniform", low = 0.001, high = 0.002 }'
    with pytest.raises(RecipeError, match="synthetic.gan.outer.lr_img: every value is a start of its own"):
        searching(tmp_path, line, "gendm-digits")


def test_runs_that_trials_start_from_end_once_each_before_them(tmp_path, monkeypatch):
    """Those that have ended are left alone, and no other command may work on them meanwhile."""
    steps = '"synthetic.gan.outer.steps" = { kind = "choice", values = [4, 6] }\n'
    rate = '"outer.lr_img" = { kind = "choice", values = [0.001, 0.002] }'
    plan = searching(tmp_path, steps + rate, "gendm-digits")
    store, done = open_store(f"file:{tmp_path}/store"), []
    (tmp_path / "store").mkdir()

    def distill(recipe, run, dataset, tracking, on_event, before=None):
        assert [o.key for o in store.list(f"claims/{run.folder}/")], "not claimed"
        done.append(recipe.outer.steps)
        run.publish([], {"run_id": run.run_id})

    monkeypatch.setattr(sweep.distilling, "distill", distill)
    monkeypatch.setattr(sweep.experts, "train_experts", lambda *a: done.append("experts"))
    data = contexts.prepare(plan.base).data
    shared = SimpleNamespace(store=store.url, tracking="", dataset=lambda recipe: data)
    shared.config = lambda recipe: {"recipe": recipe, "dataset": data}
    watch = SimpleNamespace(event=lambda event: None)
    sweep.end_runs_before(plan, shared, watch)
    claims = store.list("claims/")
    sweep.end_runs_before(plan, shared, watch)
    assert done == [4, 6] and store.list("claims/") == claims


def test_more_budget_is_the_same_sweep_and_other_values_another(tmp_path):
    line = '"outer.lr_img" = { kind = "uniform", low = 0.01, high = %s }'
    plan, wider = searching(tmp_path, line % 0.02), searching(tmp_path, line % 0.03)
    (tmp_path / "more.toml").write_text(
        'name = "s"\nconcurrency = 2\nrecipe = "digits"\n[budget]\ntrials = 99\n[search]\n' + line % 0.02
    )
    more = load(str(tmp_path / "more.toml"))
    assert sweep.sweep_id(plan, "f") == sweep.sweep_id(more, "f") != sweep.sweep_id(wider, "f")


def test_records_written_again_stay_as_they_were(tmp_path):
    journal = Journal(open_store(f"file:{tmp_path}/store"), "s-01")
    journal.end(0, trial.End("finished", 10, seconds=1.0))
    journal.end(0, trial.End("finished", 10, seconds=2.0))
    journal.drawn(trial_of(0))
    assert journal.trials()[0].end.seconds == 1.0


def trial_of(number: int):
    from tune.journal import SweepTrial

    return SweepTrial(number, {}, {})


def test_ray_tune_takes_the_end_of_a_trial_that_failed_before_it_was_judged():
    """It has no metric, which Ray Tune would refuse, and with it the whole sweep."""
    from ray.tune.execution.tune_controller import TuneController

    wants = SimpleNamespace(metric="validation_accuracy")
    controller = SimpleNamespace(_metric=wants.metric, _scheduler_alg=wants, _search_alg=wants)
    TuneController._validate_result_metrics(controller, {"number": 0, "status": "failed", "message": "no room"})
