"""Every `stillhouse` command in the docs is one that the command line takes, with recipes and overrides that exist."""

import re
import shlex

import pytest
import typer
from support.infra import INFRA, ROOT

from cluster.jobs import metrics
from distill import recipe
from distill.errors import RecipeError
from tune.cli import app

PAGES = [*(ROOT / "docs" / name for name in ("cluster.md", "quickstart.md", "operations.md")), INFRA / "README.md"]
FILES = [*PAGES, *sorted(p for p in INFRA.rglob("*") if p.suffix in (".yaml", ".sh"))]
PLACEHOLDERS = {"my.toml": "digits", "my-photos": "digits", "RECIPE": "digits"}
"""What stands in a page for a user's own file."""
COMMAND = re.compile(r"(?<!-n)(?:^|[\s(\"`])stillhouse ((?:[a-z]|--help)[^\n`#|)\"]*)", re.MULTILINE)
CLICK = typer.main.get_command(app)


def commands(text: str) -> list[list[str]]:
    """Words of each command; in prose, only what is between backticks or in an indented block counts."""
    text = text.replace("\\\n", " ")
    blocks = [line for line in text.splitlines() if line.startswith(("    ", "#   "))]
    quoted = re.findall(r"`([^`\n]*)`", text)
    return [shlex.split(found, comments=True) for part in (*blocks, *quoted) for found in COMMAND.findall(part)]


FOUND = [(file.relative_to(ROOT), words) for file in FILES for words in commands(file.read_text(encoding="utf8"))]


@pytest.mark.parametrize("file, words", FOUND, ids=[f"{file.name}-{'-'.join(words)[:60]}" for file, words in FOUND])
def test_a_command_is_one_that_the_command_line_takes(file, words):
    name, *rest = [PLACEHOLDERS.get(word, word) for word in words]
    command = CLICK.commands[name]
    with command.make_context(name, rest or (["digits"] if name == "distill" else [])) as context:
        values = context.params
    if values.get("recipe"):
        recipe.load(values["recipe"], values["overrides"] or [])


def test_commands_are_found_and_wrong_ones_are_refused():
    assert len(FOUND) >= 12 and {"up", "down", "distill"} <= {words[0] for _, words in FOUND}
    for error, message, wrong in (
        (KeyError, "dstill", ["dstill", "digits"]),
        (Exception, "No such option", ["distill", "digits", "--stor", "x"]),
        (RecipeError, "outer.stps", ["distill", "digits", "outer.stps=2"]),
        (RecipeError, "digitz", ["distill", "digitz"]),
    ):
        with pytest.raises(error, match=message):
            test_a_command_is_one_that_the_command_line_takes(None, wrong)


def test_the_cluster_page_lists_every_metric():
    text = PAGES[0].read_text()
    assert set(re.findall(r"`(ray_stillhouse_\w+)`", text)) == set(metrics.exported())


def test_links_of_the_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
