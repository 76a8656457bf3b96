"""The container image: from pinned wheels, without build tools but the one that runs need, not root."""

import re

import pytest
from support.infra import INFRA, PROJECT, ROOT, pinned

TEXT = (INFRA / "image" / "Containerfile").read_text()


def stages() -> dict[str, tuple[str, list[str]]]:
    """Each stage's base and instructions, with lines joined and comments cut."""
    lines = "\n".join(line for line in TEXT.splitlines() if not line.startswith("#")).replace("\\\n", " ").splitlines()
    found: dict[str, tuple[str, list[str]]] = {}
    for line in filter(None, map(str.strip, lines)):
        if line.startswith("FROM"):
            _, base, _, name = line.split()
            found[name] = base, []
        elif found:
            found[name][1].append(line)
    return found


STAGES = stages()
ENDS = {name: STAGES[name] for name in ("cpu", "cuda", "s3")}


def lineage(name: str) -> list[str]:
    """Instructions of a stage and of those that it is built on."""
    base, instructions = STAGES[name]
    return (lineage(base) if base in STAGES else []) + instructions


@pytest.mark.parametrize("name", ENDS)
def test_the_last_stages_run_as_a_user_without_rights(name):
    users = [line for line in lineage(name) if line.startswith("USER")]
    assert users[-1] == "USER 1000:1000"
    assert not re.search(r"\bsudo\b", " ".join(lineage(name)))


@pytest.mark.parametrize(
    "name, packages", [("cpu", "g++ wget"), ("cuda", "g++ wget"), ("s3", "radosgw ceph-mon ceph-osd")]
)
def test_the_last_stages_have_no_more_packages_than_runs_need(name, packages):
    (install,) = [line for line in lineage(name) if "apt-get install" in line]
    assert "--no-install-recommends" in install
    assert re.search(r"--no-install-recommends ([^&]*)&&", install)[1].strip() == packages


@pytest.mark.parametrize("name", ["packages-cpu", "packages-cuda"])
def test_packages_are_pinned_and_the_source_comes_after_them(name):
    assert any("PIP_CONSTRAINT=/src/constraints.txt" in line for line in lineage(name))
    steps = lineage(name)
    versions = next(i for i, line in enumerate(steps) if "-r requirements.txt" in line)
    assert {line.split()[1] for line in steps[versions:] if line.startswith("COPY")} == {"cluster", "distill", "tune"}
    assert steps[-1].endswith("pip install --no-deps .")


def test_extras_that_the_image_installs_exist_and_are_pinned():
    (extra,) = set(re.findall(r"optional-dependencies'\]\['(\w+)'\]", TEXT))
    for requirement in PROJECT["optional-dependencies"][extra]:
        assert pinned(re.match(r"[\w-]+", requirement)[0])


def test_what_is_copied_is_let_through_and_nothing_else():
    ignored = (INFRA / "image" / "Containerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        word
        for _, steps in STAGES.values()
        for line in steps
        if line.startswith("COPY") and "--from" not in line
        for word in [w for w in line.split()[1:-1] if not w.startswith("--")]
    }
    assert all((ROOT / path).exists() for path in copied)
    assert all(any(path == one or path.startswith(f"{one}/") for one in let_through) for path in copied)
    assert {"data", ".git", "infra", "tests"}.isdisjoint(let_through)


def test_the_python_is_the_one_that_the_constraints_are_for():
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert f"ARG BASE=python:{oldest}-" in TEXT


def test_the_s3_stage_runs_a_script_that_imports_the_standard_library_alone():
    import ast
    import sys

    tree = ast.parse((ROOT / "cluster" / "stack" / "ceph.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
