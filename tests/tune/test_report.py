"""The report page: complete, self-contained, and no text of a recipe becomes markup."""

import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from cluster.store import open_store
from distill import recipe as recipes
from tune import plots, report
from tune.journal import DIVERGED, FINISHED, STOPPED, End, Journal, Judgement, SweepTrial
from tune.live import brief
from tune.reading import load
from tune.report import Results

NASTY = "<script>alert(1)</script>"
PUBLISHED = {"test_mean": 0.9, "test_std": 0.01, "test_n": 5, "budget_ipc": 1.0, "model": "digits", "version": 3}


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), 90).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def results(tmp_path) -> tuple[Results, Journal]:
    """A sweep of four trials: two finished, one stopped, one diverged with a message that looks like markup."""
    (tmp_path / "s.toml").write_text(
        f'recipe = "digits"\nabout = "{NASTY}"\n[search]\n'
        '"outer.lr_img" = { kind = "loguniform", low = 0.1, high = 10.0 }\n'
        '"synthetic.init" = { kind = "choice", values = ["real", "noise"] }\n'
        '"synthetic.ipc" = { kind = "integer", low = 1, high = 4 }\n'
    )
    plan = load(str(tmp_path / "s.toml"))
    journal = Journal(open_store(f"file:{tmp_path}/store"), "s-0123")
    ends = [End(FINISHED, 160), End(FINISHED, 160), End(STOPPED, 80), End(DIVERGED, 7, f"NaN {NASTY}")]
    for i, (end, accuracy) in enumerate(zip(ends, (0.8, 0.9, 0.5, 0.1), strict=True)):
        values = {"outer.lr_img": 0.5 + i, "synthetic.init": "real", "synthetic.ipc": i + 1}
        journal.drawn(SweepTrial(i, {}, values))
        for step in (0, end.step):
            figures = (step, accuracy, step, accuracy, 0.5, 640 * (i + 1), 1.0, f"run-{i}", values)
            journal.report(i, Judgement(*figures), png())
        journal.end(i, end)
    trials = journal.trials()
    return Results(plan, "s-0123", trials, trials[1], PUBLISHED), journal


class References(HTMLParser):
    """Everything a page would fetch, its tags, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.fetched, self.tags, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.fetched += [v for k, v in attributes if k in ("src", "href", "xlink:href", "data", "srcset")]

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_no_network_and_runs_no_script(results):
    text = report.page(*results)
    page = References(text)
    assert "script" not in page.tags and "link" not in page.tags
    assert page.fetched and all(v.startswith(("data:image/png;base64,", "#")) for v in page.fetched)
    assert not re.search(r"@import|url\((?!#)", text)
    assert page.text.count(NASTY) == 2, "shown as text: in the introduction and in the trial's message"


def test_the_page_shows_every_trial_and_all_plots(results):
    text = report.page(*results)
    page = References(text)
    assert page.tags.count("svg") == 4 and page.tags.count("img") == 2
    for words in ("validation accuracy of the winner, trial 1", "90.0 ± 1.0 %", "diverged at step 7", "1 stopped"):
        assert words in re.sub(r"\s+", " ", page.text), words
    assert text == report.page(*results), "the same results give the same page"


def test_the_winners_recipe_says_what_was_drawn(results, tmp_path):
    shown, journal = results
    report.write_report(shown, journal, tmp_path / "out")
    winner = recipes.load(str(tmp_path / "out" / report.WINNER))
    assert winner == shown.plan.recipe({"outer.lr_img": 1.5, "synthetic.init": "real", "synthetic.ipc": 2})


def test_ranking_puts_what_counts_first(results):
    shown, _ = results
    assert [trial.number for trial in shown.ranked] == [1, 0, 2, 3]


def test_without_a_winner_there_is_a_page_all_the_same(results):
    shown, journal = results
    nothing = Results(shown.plan, "s-0123", [shown.trials[3]], None, {})
    assert "No trial ran to its end" in References(report.page(nothing, journal)).text


def test_a_trial_without_reports_does_not_break_the_plots(results):
    shown, journal = results
    bare = SweepTrial(
        4, {}, {"outer.lr_img": 3.0, "synthetic.init": "noise", "synthetic.ipc": 2}, [], End("memory", 0, "full")
    )
    text = report.page(Results(shown.plan, "s-0123", [*shown.trials, bare], shown.winner, PUBLISHED), journal)
    assert "memory" in References(text).text


def test_the_front_holds_what_nothing_beats_in_both():
    points = [(100, 50.0), (200, 60.0), (150, 40.0), (300, 55.0), (200, 58.0), (400, 61.0)]
    assert plots.pareto(points) == [(100, 50.0), (200, 60.0), (400, 61.0)]


def test_logarithmic_axes_are_even_in_decades(results):
    shown, _ = results
    axis = plots.Axis("outer.lr_img", shown.plan.sweep.search["outer.lr_img"], shown.trials)
    first, last = shown.trials[0], shown.trials[-1]
    assert (axis.share(first), axis.share(last)) == (0.0, 1.0)
    assert axis.share(shown.trials[1]) == pytest.approx(0.5646, abs=1e-3)  # log(1.5 / 0.5) / log(3.5 / 0.5)


def test_an_order_is_shown_whole_on_the_page_and_begun_in_the_live_table():
    order = [3, 1, 2, 0, 4]
    assert (brief(order, 20), brief(order)) == ("3 1 2 0 4", "3 1 ...")
