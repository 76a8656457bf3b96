"""What the packages import is what pyproject.toml declares: no more, since an installation would break, and no less."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("cluster", "distill", "tune")
OPTIONAL = {"open-clip-torch", "transformers", "gymnasium", "pillow-heif"}
"""Imported by distill/order/embeddings/clip_text.py, distill/carracing/simulator.py and distill/data/decode.py if a
user asks for it, with an error that names the package."""
DISTRIBUTIONS = {
    "PIL": "pillow", "sklearn": "scikit-learn", "open_clip": "open-clip-torch", "pillow_heif": "pillow-heif"
}  # fmt: skip
"""Of modules that have another name."""


def imported(folder: Path) -> dict[str, str]:
    """Top-level modules that the Python files below a folder import, anywhere in them, and one file of each."""
    modules = {}
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            modules |= {name.partition(".")[0]: str(file.relative_to(ROOT)) for name in names}
    return modules


@pytest.fixture(scope="module")
def used() -> dict[str, str]:
    """Distributions that the packages import, and one file that does."""
    modules = {name: file for package in PACKAGES for name, file in imported(ROOT / package).items()}
    third_party = {name: file for name, file in modules.items() if name not in sys.stdlib_module_names | {*PACKAGES}}
    return {DISTRIBUTIONS.get(name, name): file for name, file in third_party.items()}


@pytest.fixture(scope="module")
def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    return {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}


def test_every_import_is_declared(used, declared):
    undeclared = {name: file for name, file in used.items() if name not in declared | OPTIONAL}
    assert not undeclared


def test_every_declaration_is_imported(used, declared):
    assert not declared - set(used)
