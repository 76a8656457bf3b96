"""A matrix from its journal and published runs, without Ray: what is shown of finished, failed and refused cells."""

import csv
import json

import pytest
from PIL import Image
from rich.console import Console

from cluster.results.runs import Run
from cluster.store import open_store
from distill import recipe
from distill.context import prepare
from tune import sweep
from tune.journal import BUDGET, DIVERGED, FAILED, FINISHED, MEMORY, End, Journal, Judgement, SweepTrial
from tune.matrix import cells, heatmap, results, run
from tune.matrix.cells import PATH
from tune.sweep import Places
from tune.watching import Watch

BASELINES = {"random": {"mean": 0.69, "std": 0.034, "n": 5}, "full": {"mean": 0.98, "std": 0.005, "n": 10}}


@pytest.fixture(scope="module")
def grid():
    context = prepare(recipe.load("digits", ["network.depth=1", "network.width=4", "dataset.limit=300"]))
    return cells.build(context, ("pixels", "canvas", "wang"), ("distribution", "unrolled"), 1.0, {})


@pytest.fixture
def journal(grid, tmp_path) -> Journal:
    """pixels ended well and ran out of memory, canvas diverged and was cut short by the budget; wang is refused."""
    store = open_store(f"file:{tmp_path}/store")
    journal = Journal(store, "digits-matrix-01")
    ends = [End(FINISHED, 160, seconds=12.5), End(MEMORY, 3, "out of memory; lower <b>"), End(DIVERGED, 7, "NaN in x")]
    for i, cell in enumerate(grid.accepted):
        values = {PATH: cell.values}
        journal.drawn(SweepTrial(i, {PATH: i}, values))
        judged = Judgement(80, 0.8, 80, 0.8, 0.5, cell.floats, 1.0, f"run-{i}", values)
        journal.report(i, judged)
        if i < 3:
            journal.end(i, ends[i])
    result = {"test_mean": 0.911, "test_std": 0.007, "test_n": 5, "step": 80, "run_id": "run-0"}
    Run(store, "run-0").publish([], result)
    return journal


@pytest.fixture
def found(grid, journal, tmp_path):
    return run.collect(grid, journal, f"file:{tmp_path}/store", BASELINES, {"herding": "no such class"})


def test_each_cell_says_how_it_ended(found):
    ends = {(r.cell.set, r.cell.objective): (r.status, r.reason) for r in found.results}
    assert ends[("pixels", "distribution")] == ("finished", "")
    assert ends[("pixels", "unrolled")] == ("memory", "out of memory; lower <b>")
    assert ends[("canvas", "distribution")] == ("diverged", "NaN in x")
    assert ends[("canvas", "unrolled")] == ("running", "")
    assert {ends[("wang", o)][0] for o in ("distribution", "unrolled")} == {"refused"}
    assert found.at("pixels", "distribution").score == {"mean": 0.911, "std": 0.007, "n": 5}
    assert all(r.score is None for r in found.results[1:])


def test_the_files_hold_every_cell_and_the_baselines(found, tmp_path):
    figures = results.write(found, tmp_path / "out")
    assert json.loads((tmp_path / "out" / results.FIGURES).read_text()) == figures
    assert figures["budget_floats"] == 640 and figures["baselines"] == BASELINES
    with (tmp_path / "out" / results.TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["set"], row["status"]) for row in rows] == [
        ("pixels", "finished"), ("pixels", "memory"), ("canvas", "diverged"), ("canvas", "running"),
        ("wang", "refused"), ("wang", "refused"), ("random", "baseline"), ("full", "baseline"),
    ]  # fmt: skip
    assert (rows[0]["test_mean"], rows[0]["floats"], rows[0]["images_per_class"]) == ("0.911", "640", "1.0")
    assert "9.81 images per class" in rows[4]["reason"] and rows[4]["floats"] == ""
    assert Image.open(tmp_path / "out" / results.PICTURE).size[0] > 500


def test_the_terminal_shows_figures_and_reasons(found, capsys):
    results.show(found, Console(width=200))
    said = capsys.readouterr().out
    for words in ("91.1 ± 0.7", "memory", "diverged", "refused", "random real images", "69.0 ± 3.4", "98.0 ± 0.5",
                  "no herding: no such class", "pixels x unrolled: out of memory; lower <b>",
                  "wang x distribution, unrolled: synthetic: the smallest wang"):  # fmt: skip
        assert words in said, words
    assert said.count("the smallest wang") == 1, "a reason is named once"


def test_the_picture_hatches_what_has_no_figure_and_numbers_its_reason(found):
    made = heatmap.figure(found)
    main, real = made.axes[:2]
    hatches = [patch.get_hatch() for patch in main.patches]
    assert hatches == [None, "xxxx", "xxxx", "xxxx", "////", "////"]
    texts = [t.get_text() for t in main.texts]
    assert texts[:2] == ["91.1", "± 0.7"] and texts[2:] == [
        "memory [1]", "diverged [2]", "running [3]", "refused [4]", "refused [4]",
    ]  # fmt: skip
    notes = " ".join(t.get_text() for t in made.texts)
    assert "[1] out of memory" in notes and "[4] synthetic: the smallest wang" in notes and "no herding" in notes
    assert "640 stored floats (1 images per class)" in notes and "of 5 networks" in notes
    assert [t.get_text() for t in real.texts][::3] == ["69.0", "98.0"]


def test_colours_are_of_the_accuracy_on_one_scale(found):
    made = heatmap.figure(found)
    scale = heatmap._scale(found)
    assert (scale.vmin, scale.vmax) == (65, 100)
    main, real = made.axes[:2]
    assert main.patches[0].get_facecolor() == heatmap.COLOURS((91.1 - 65) / 35)
    assert real.patches[0].get_facecolor() == heatmap.COLOURS((69 - 65) / 35)


def test_a_matrix_without_any_figure_is_drawn(grid, tmp_path):
    empty = Journal(open_store(f"file:{tmp_path}/store"), "none")
    found = run.collect(grid, empty, f"file:{tmp_path}/store", {}, {})
    results.write(found, tmp_path / "out")
    assert {r.status for r in found.results} == {"not run", "refused"}


def test_a_rerun_tries_what_failed_again_and_keeps_the_rest(grid, tmp_path):
    plan, store = cells.plan(grid), f"file:{tmp_path}/store"
    journal = run.open_journal(plan, grid.context, store)
    for i, status in enumerate((FINISHED, FAILED, MEMORY, DIVERGED)):
        journal.drawn(SweepTrial(i, {}, {PATH: grid.accepted[i].values}))
        journal.end(i, End(status, 5))
    again = run.open_journal(plan, grid.context, store)
    assert again.sweep_id == journal.sweep_id
    assert [t.status for t in again.trials()] == [FINISHED, "running", "running", DIVERGED]


def test_cells_that_fail_leave_the_others_and_baselines_are_measured_once(grid, tmp_path, monkeypatch):
    """On stubs for Ray: the trials of one command end differently, and the next command measures no baseline again."""
    store, plan = f"file:{tmp_path}/store", cells.plan(grid)
    journal = run.open_journal(plan, grid.context, store)
    measured = []

    def trials(plan, context, journal, places, watch):
        for i, cell in enumerate(grid.accepted):
            values = {PATH: cell.values}
            journal.drawn(SweepTrial(i, {}, values))
            judged = Judgement(80, 0.8, 80, 0.8, 0.5, cell.floats, 1.0, f"run-{i}", values)
            journal.report(i, judged)
            journal.end(i, End(FAILED, 3, "its process was killed") if i == 1 else End(FINISHED, 160))
            figures = {"test_mean": 0.5 + i / 10, "test_std": 0.0, "test_n": 2, "step": 80, "run_id": f"run-{i}"}
            Run(journal.store, f"run-{i}").publish([], figures) if i != 1 else None

    def baselines(request, per_class, store_url, on_event, data):
        measured.append((per_class, request.full))
        return [{**BASELINES, "skipped": {}, "budget_ipc": 1.0}]

    monkeypatch.setattr(sweep, "run_trials", trials)
    monkeypatch.setattr(run.evaluating, "baselines", baselines)
    monkeypatch.setattr(run, "share", lambda data: data)
    places = Places(store, "", tmp_path)
    assert run.finished(grid, journal, store) is None
    first = run.run(grid, plan, journal, places, Watch())
    journal.reopen(1)
    assert run.finished(grid, journal, store) is None, "a cell that was opened again is to be run"
    journal.end(1, End(FAILED, 3, "its process was killed"))
    done = run.finished(grid, journal, store)
    assert done == first, "nothing is left to do"
    second = run.run(grid, plan, journal, places, Watch())
    assert measured == [(1.0, True)]
    for found in (first, second):
        assert [r.status for r in found.results] == ["finished", "failed", "finished", "finished", "refused", "refused"]
        assert found.baselines == {"random": BASELINES["random"], "full": BASELINES["full"]}
    assert BUDGET not in {r.status for r in first.results}
