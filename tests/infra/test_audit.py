"""infra/audit.py: what was not asked about is never called safe; every pinned package is in the bill of materials."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FREEZE = "jinja2==3.1.2\n-e git+ssh://x#egg=stillhouse\n# comment\ntorch==2.11.0+cpu\nother @ file:///tmp/other\n"
SAFE = {"name": "jinja2", "version": "3.1.2", "vulns": []}
BAD = SAFE | {"vulns": [{"id": "CVE-1", "fix_versions": ["3.1.5"], "aliases": [], "description": ""}]}
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}


@pytest.fixture
def audit(tmp_path):
    """audit.py beside tools that say what they are made to; returns its exit code and output."""
    (tmp_path / "bin").mkdir()
    os.symlink(sys.executable, tmp_path / "bin" / "python")
    (tmp_path / "freeze.txt").write_text(FREEZE)

    def tool(name: str, code: str) -> None:
        path = tmp_path / "bin" / name
        path.write_text(f"#!{sys.executable}\nimport sys\n{code}\n")
        path.chmod(0o755)

    def run(said: str, *options: str) -> tuple[int, str]:
        tool("cyclonedx-py", "open(sys.argv[sys.argv.index('-o') + 1], 'w').write(open(sys.argv[-1]).read())")
        tool("pip-audit", said)
        code = "import runpy, sys; sys.executable = sys.argv[1]; sys.argv = sys.argv[2:]; "
        code += "runpy.run_path(sys.argv[0], run_name='__main__')"
        command = [sys.executable, "-c", code, str(tmp_path / "bin" / "python"), str(ROOT / "infra" / "audit.py")]
        command += [str(tmp_path / "freeze.txt"), "--sbom", str(tmp_path / "dist" / "sbom.json"), *options]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        return done.returncode, done.stdout + done.stderr

    return run


def saying(*dependencies: dict) -> str:
    return f"print({json.dumps(json.dumps({'dependencies': dependencies, 'fixes': []}))})"


def test_nothing_known_of_any_package_is_success(audit, tmp_path):
    code, said = audit(saying(SAFE, SAFE | {"name": "torch"}))
    assert (code, "0 known vulnerabilities in 2 packages" in said) == (0, True), said
    assert (tmp_path / "dist" / "sbom.json").read_text() == "jinja2==3.1.2\ntorch==2.11.0\n"


def test_a_vulnerability_is_named_with_its_fix(audit):
    code, said = audit(saying(BAD, SKIPPED), "--offline-ok")
    assert code == 1 and "jinja2 3.1.2: CVE-1, fixed in 3.1.5" in said


@pytest.mark.parametrize(
    "tool, words",
    [
        (saying(SAFE, SKIPPED), "no advisories of 1 of 2 packages: torch"),
        ("sys.exit('ConnectionError: pypi.org')", "could not be reached (ConnectionError: pypi.org)"),
        ("sys.exit(1)", "could not be reached (pip-audit ended with 1)"),
    ],
)
def test_what_was_not_asked_about_is_not_called_safe(audit, tool, words):
    """pip-audit itself says `No known vulnerabilities found` of packages that an index does not know."""
    code, said = audit(tool)
    assert code == 3 and "NOT AUDITED" in said and words in said
    code, said = audit(tool, "--offline-ok")
    assert code == 0 and "NOT AUDITED" in said and words in said
