"""Every benchmark starts from a checkout: its imports hold, `--help` exits with 0 and knows `--json`."""

import runpy
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SCRIPTS = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("test_"))
COMMANDS = {"posters_figures": ["run"]}  # of a script with several commands, the one that measures


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_names_json(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(script), *COMMANDS.get(script.stem, []), "--help"])
    monkeypatch.setattr(sys, "path", [p for p in sys.path if Path(p) not in (TESTS, TESTS.parent)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    assert stop.value.code == 0
    assert "--json" in capsys.readouterr().out
    for package, folder in (("support", TESTS), ("distill", TESTS.parent), ("cluster", TESTS.parent)):
        if f"\nfrom {package}" in script.read_text():
            assert str(folder) in sys.path, f"{script.name} imports {package} without adding {folder} to sys.path"
