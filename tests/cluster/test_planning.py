"""Times as people write them, what is planned and what is only cut short, and plans that are kept."""

import pytest
from support import small

from cluster.cli import planning
from cluster.jobs import experts
from cluster.store import open_store
from distill import plan as plans
from distill import recipe
from distill.errors import PlanError, RecipeError, StoreError
from distill.plan import nominal


@pytest.mark.parametrize(
    "text, seconds", [("20m", 1200), ("1h", 3600), ("1h30m", 5400), ("90s", 90), ("1.5h", 5400), ("20 min", 1200)]
)
def test_times_as_people_write_them(text, seconds):
    assert planning.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "20", "0m", "-5m", "1h and more"])
def test_other_times_are_refused_with_an_example(text):
    with pytest.raises(PlanError, match="write the time as 20m, 1h or 1h30m"):
        planning.seconds(text)


def test_data_alone_is_planned_and_a_recipe_is_not(tmp_path):
    bare, full, photos = tmp_path / "bare.toml", tmp_path / "full.toml", tmp_path / "photos"
    photos.mkdir()
    bare.write_text('name = "x"\ndataset.kind = "digits"\n')
    full.write_text('name = "x"\ndataset.kind = "digits"\nnetwork.width = 4\n')
    assert planning.is_bare(str(photos)) and planning.is_bare(str(bare))
    assert not planning.is_bare(str(full)) and not planning.is_bare("digits") and not planning.is_bare("gone.toml")


def test_a_plan_is_measured_once_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    bare = tmp_path / "mine.toml"
    bare.write_text('name = "x"\ndataset.kind = "digits"\ndataset.limit = 300\n')
    speeds = plans.Speeds(1, 0.5, {"trajectory": 0.2, "distribution": 0.1}, {2: 0.01, 5: 0.02}, {2: 0, 5: 0})
    times = []
    monkeypatch.setattr(plans, "_speeds", lambda drafts, facts: times.append(1) or speeds)
    first = planning.read(str(bare), [], 600)
    count, said = len(times), without_progress(capsys.readouterr().out)
    again = planning.read(str(bare), ["outer.steps=7"], 600)
    assert len(times) == count > 0 and again.outer.steps == 7
    assert first.model_copy(update={"outer": again.outer}) == again
    later = without_progress(capsys.readouterr().out)
    assert "made before" in later and said.splitlines()[2:-1] == later.splitlines()[1:-1]  # the same lines again
    assert planning.read(str(bare), [], 900) != first and len(times) > count
    (kept, _) = sorted((tmp_path / "home" / "plans").iterdir())
    assert kept.read_text().startswith("# for")


def without_progress(text: str) -> str:
    """What is said however slow the machine is."""
    return "\n".join(line for line in text.splitlines() if not line.startswith(("timing", "reading")))


SPEEDS = plans.Speeds(1, 0.5, {"trajectory": 0.2, "distribution": 0.1}, {2: 0.01, 5: 0.02}, {2: 0, 5: 0})


def test_what_a_bare_recipe_and_overrides_say_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(plans, "_speeds", lambda drafts, facts: SPEEDS)
    bare, out = tmp_path / "file-name.toml", tmp_path / "out.toml"
    bare.write_text('name = "mine"\nseed = 5\nthreads = 2\ndevice = "cpu"\ndataset.kind = "digits"\n')
    words = ["synthetic.ipc=3", "synthetic.labels.mode=learned", "dataset.limit=400"]
    made = planning.planned(str(bare), words, 600, out=out)
    assert (made.name, made.seed, made.threads, made.device, made.dataset.limit) == ("mine", 5, 2, "cpu", 400)
    assert (made.synthetic.ipc, made.synthetic.labels.mode) == (3, "learned")
    assert recipe.load(str(out)) == made and "3 images per class" in out.read_text()


def test_a_file_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(plans, "_speeds", lambda drafts, facts: SPEEDS)
    with pytest.raises(StoreError, match="plan.toml: No such file or directory: name a file"):
        planning.planned("digits", ["dataset.limit=400"], 600, out=tmp_path / "none" / "plan.toml")


def test_experts_from_the_first_on_are_used_when_time_ran_out(tmp_path):
    context = small.context("trajectory", "experts.count=5")
    own = experts.own_set(context, f"file:{tmp_path}/store")
    open_store(f"file:{tmp_path}/store").check_writable()
    finished = {0, 1, 3}
    own.finished = lambda: sorted(finished)
    assert experts._unbroken(own, 5) == 2
    finished |= {2, 4}
    assert experts._unbroken(own, 5) == 5


# ---------------------------------------------------------------- without a time: defaults by the data alone


def four_lines(folder, *more):
    path = folder / "mine.toml"
    path.write_text("\n".join(['name = "mine"', 'dataset.kind = "digits"', "dataset.limit = 400", *more]))
    return str(path)


def test_four_lines_without_a_time_are_planned_from_the_data_alone(tmp_path, monkeypatch, capsys):
    """No clock: the same settings on every machine. The defaults of a recipe are a hundred experts of fifty epochs."""
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(plans, "Clock", None)
    made = planning.read(four_lines(tmp_path, "synthetic.ipc = 3", "synthetic.labels.mode = 'learned'"), [])
    assert made.network.depth == 2 and made.synthetic.ipc == 3 and made.synthetic.labels.mode == "learned"
    assert made.objective.expert_use == "none" or made.experts.count <= 20
    assert "3 images per class" in (said := capsys.readouterr().out) and "within 60 min of two CPU cores" in said
    assert planning.read(four_lines(tmp_path), []) != made


def test_an_objective_that_is_set_is_planned_for(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(plans, "Clock", None)
    for kind, experts_ in (("trajectory", True), ("distribution", False), ("unrolled", False)):
        made = planning.read(four_lines(tmp_path), [f"objective.kind={kind}"])
        assert made.objective.kind == kind and (made.expert_use == "required") == experts_
        assert not experts_ or 4 <= made.experts.count <= 20


def test_experts_that_do_not_fit_are_given_more_time_if_they_are_asked_for(tmp_path, monkeypatch, capsys):
    """Not the hundred that a recipe has by default, beside a plan for another objective."""
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    slow = plans.Speeds(1, 60, {"trajectory": 5, "distribution": 1}, {2: 0.01, 5: 0.02}, {2: 0, 5: 0})
    monkeypatch.setattr(nominal, "speeds", lambda drafts, facts: slow)
    assert planning.read(four_lines(tmp_path), []).objective.kind == "distribution"
    assert "within 60 min" in capsys.readouterr().out
    asked = planning.read(four_lines(tmp_path), ["objective.kind=trajectory"])
    assert 4 <= asked.experts.count <= 20 and asked.outer.steps >= 250
    assert "within 60 min" not in capsys.readouterr().out


def test_a_recipe_that_says_more_is_run_as_it_stands(tmp_path):
    full = four_lines(tmp_path, "experts.epochs = 20")
    assert planning.read(full, []).experts.count == recipe.Experts().count


@pytest.mark.parametrize(
    "override, said",
    [("synthetic.ipc=many", r"synthetic\.ipc"), ("device=tpu", "device"), ("objective.kind=foo", "adversarial")],
)
def test_wrong_overrides_are_refused_before_anything_is_planned(tmp_path, monkeypatch, override, said):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    for given in (None, 600):
        with pytest.raises(RecipeError, match=said):
            planning.read(four_lines(tmp_path), [override], given)
    assert not (tmp_path / "home" / "plans").exists()


def test_a_poster_of_half_an_image_per_class_is_planned_as_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    made = planning.read(four_lines(tmp_path), ["synthetic.kind=poster", "synthetic.ipc=0.5"])
    assert (made.synthetic.kind, made.synthetic.ipc) == ("poster", 0.5)
    assert "1 image per class" in capsys.readouterr().out
