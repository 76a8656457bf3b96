"""Every `stillhouse` command in the docs is one that the command line takes, with recipes and overrides that exist.

Tables that name all kinds or all recipes name those that there are, with the figures that recipes have.
"""

import functools
import re
import shlex

import pytest
import typer
from support.infra import INFRA, ROOT
from test_pairs import OBJECTIVES, SETS

from cluster.cli.recipes import _rows
from cluster.jobs import metrics
from distill import recipe
from distill.errors import RecipeError
from tune.cli import app
from tune.matrix.cells import split
from tune.reading import OWN_BLOCKS

DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), INFRA / "README.md", ROOT / "README.md"]
OTHERS = {
    DOCS / "adding_a_method.md",  # of kinds that it adds: tests/test_adding_a_method.py
    DOCS / "formats.md",  # names formats, "stillhouse synthetic set"
}
FILES = [
    *(page for page in PAGES if page not in OTHERS),
    *sorted(p for p in INFRA.rglob("*") if p.suffix in (".yaml", ".sh")),
]
FILE_ENDS = (".safetensors", ".parquet", ".py")
PLACEHOLDERS = dict.fromkeys(("my.toml", "my-photos", "RECIPE", "DATA", "fashion.toml"), "digits")
"""What stands in a page for a user's own file."""
COMMAND = re.compile(r"(?<!-n)(?:^|[\s(\"`])stillhouse ((?:[a-z]|--help)(?:\"[^\n\"$]*\"|[^\n`#|)\"])*)", re.MULTILINE)
CLICK = typer.main.get_command(app)


def commands(text: str) -> list[list[str]]:
    """Words of each command; in prose, only what is between backticks or in an indented block counts."""
    text = text.replace("\\\n", " ")
    blocks = [line for line in text.replace(" && ", "\n    ").splitlines() if line.startswith(("    ", "#   "))]
    quoted = [quote.replace("\n", " ") for quote in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    return [shlex.split(found, comments=True) for part in (*blocks, *quoted) for found in COMMAND.findall(part)]


FOUND = [(file.relative_to(ROOT), words) for file in FILES for words in commands(file.read_text(encoding="utf8"))]


@pytest.mark.parametrize("file, words", FOUND, ids=[f"{file.name}-{'-'.join(words)[:60]}" for file, words in FOUND])
def test_a_command_is_one_that_the_command_line_takes(file, words):
    name, *rest = [PLACEHOLDERS.get(word, word) for word in words]
    command = CLICK.commands[name]
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):  # data check, models list
        command, *rest = command.commands[rest[0]], *rest[1:]
    if not rest and name != "distill":
        return  # a command's name in a sentence
    with command.make_context(name, rest or (["digits"] if name == "distill" else [])) as context:
        values = context.params
    overrides = values.get("overrides") or []
    if values.get("recipe") and name == "matrix":
        overrides, of_kinds = split([text for text in overrides if text.partition("=")[0] not in OWN_BLOCKS])
        for kind, own in of_kinds.items():
            side = "synthetic" if kind in SETS else "objective"
            recipe.load(values["recipe"], [*overrides, f"{side}.kind={kind}", *own])
    if values.get("recipe"):
        recipe.load(values["recipe"], overrides)


def test_commands_are_found_and_wrong_ones_are_refused():
    assert len(FOUND) > 150 and {"up", "down", "distill"} <= {words[0] for _, words in FOUND}
    for error, message, wrong in (
        (KeyError, "dstill", ["dstill", "digits"]),
        (Exception, "No such option", ["distill", "digits", "--stor", "x"]),
        (RecipeError, "outer.stps", ["distill", "digits", "outer.stps=2"]),
        (RecipeError, "digitz", ["distill", "digitz"]),
        (KeyError, "lits", ["models", "lits"]),
        (Exception, "No such option", ["models", "fetch", "x", "--outt", "y"]),
    ):
        with pytest.raises(error, match=message):
            test_a_command_is_one_that_the_command_line_takes(None, wrong)


def test_the_cluster_page_lists_every_metric():
    text = (DOCS / "cluster.md").read_text()
    assert set(re.findall(r"`(ray_stillhouse_\w+)`", text)) == set(metrics.exported())


def test_the_figure_of_the_concepts_has_every_set_and_every_objective():
    figure = re.search(r"(?:^    .*\n|^\n)+", (DOCS / "concepts.md").read_text().partition("(objective)")[2], re.M)[0]
    columns, rows = figure.split("+----", 1)[0], re.findall(r"^      (\w+) +\|", figure, re.M)
    assert rows == SETS and [word for word in columns.split() if word in OBJECTIVES] == OBJECTIVES
    cells = [line.split("|")[1:-1] for line in figure.splitlines() if re.match(r"      \w+ +\|", line)]
    assert all(len(row) == len(OBJECTIVES) and all(cell.strip() for cell in row) for row in cells)


def test_settings_that_pages_name_exist():
    known = {path for path, *_ in _rows(recipe.Recipe, "")}
    blocks = "|".join(sorted(path for path in known if "." not in path))
    known |= {f"{block}.kind" for block in known}
    setting = re.compile(rf"`((?:{blocks})\.[a-z_.]+[a-z_])(?:[ =][^`]*)?`")
    named = {(page.name, path) for page in PAGES if page not in OTHERS for path in setting.findall(page.read_text())}
    unknown = {(page, path) for page, path in named if path not in known}
    assert len(named) > 80 and not {(page, path) for page, path in unknown if not path.endswith(FILE_ENDS)}


@functools.cache
def rows_of_recipes() -> dict[str, str]:
    """The row of each recipe in docs/recipes.md."""
    rows = [line for line in (DOCS / "recipes.md").read_text().splitlines() if line.startswith("| `")]
    named = [(name, row) for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(named) == len(dict(named)), "a recipe has two rows"
    return dict(named)


def test_the_page_of_recipes_has_a_row_for_each():
    assert set(rows_of_recipes()) == set(recipe.shipped())


@pytest.mark.parametrize("name", recipe.shipped())
def test_the_page_of_recipes_has_the_figure_and_the_steps_of_the_recipe(name):
    row, made = rows_of_recipes()[name], recipe.load(name)
    figures = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", row.partition("` |")[2])]
    if expected := re.search(r"(\d+(?:\.\d+)?) (?:±|%)", made.expected):
        assert min(abs(float(expected[1]) - figure) for figure in figures) < 1, made.expected
    else:
        assert re.search("not measured|no figure|no accuracy", row), made.expected
    if row in (DOCS / "recipes.md").read_text().partition("## The papers' settings")[2]:
        assert f"{made.outer.steps:,}" in row.split("|")[3]
        assert (f"; {made.experts.count}" in row.split("|")[3]) == bool(made.experts_needed)


def test_links_of_the_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
