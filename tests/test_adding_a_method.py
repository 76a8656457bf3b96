"""docs/adding_a_method.md is true: its code, applied to a copy of the package, runs with every other kind."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distill import recipe

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```python (settings|union|file) (\S+)\n(.*?)```", re.S)


@pytest.mark.slow
def test_the_methods_of_the_page_run_with_every_other_kind(tmp_path):
    for folder in ("distill", "tests/support"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests/test_pairs.py", tmp_path / "tests")
    blocks = BLOCK.findall((ROOT / "docs/adding_a_method.md").read_text(encoding="utf8"))
    assert [how for how, _, _ in blocks] == ["settings", "union", "file"] * 2
    for how, name, code in blocks:
        _apply(how, tmp_path / name, code)
    for module, settings in (("synthetic", "Mixed"), ("objective", "Answers")):
        init = tmp_path / "distill/recipe/__init__.py"
        init.write_text(init.read_text() + f"\nfrom distill.recipe.{module} import {settings}  # noqa: F401\n")
    tests = ("tests/test_pairs.py", "-k", "mixed or answers")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{tmp_path}/tests", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    sets, objectives = (len(recipe.members(u)) for u in (recipe.SyntheticSettings, recipe.ObjectiveSettings))
    pairs = (objectives + 1) + sets  # mixed with every objective, answers with every other set
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) >= 4 * pairs


def _apply(how: str, file: Path, code: str) -> None:
    if how == "file":
        file.write_text(code)
        return
    text = file.read_text()
    union = re.search(r"^\w+Settings = Annotated\[(.*\]|\n(.*\n)*?\])$", text, re.M)
    if how == "settings":
        file.write_text(text[: union.start()] + code + "\n\n" + text[union.start() :])
    else:
        file.write_text(text[: union.start()] + code + text[union.end() :])
