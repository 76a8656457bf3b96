"""The files of infra/, and what in the code they must agree with."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]


def pinned(package: str) -> str:
    """A package's version in constraints.txt."""
    (version,) = re.findall(rf"^{package}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return version


def documents(path: str) -> list[dict]:
    """The YAML documents of a file of infra/."""
    return list(yaml.safe_load_all((INFRA / path).read_text(encoding="utf8")))


def manifests() -> list[tuple[str, dict]]:
    """Every Kubernetes manifest, with the name of its file."""
    files = sorted((INFRA / "kuberay").glob("*.yaml"))
    return [(file.name, one) for file in files for one in documents(f"kuberay/{file.name}")]


def pods(manifest: object) -> Iterator[dict]:
    """Every pod template in a manifest, at any depth."""
    if isinstance(manifest, dict):
        if "containers" in manifest.get("spec", {}):
            yield manifest
        for value in manifest.values():
            yield from pods(value)
    elif isinstance(manifest, list):
        for value in manifest:
            yield from pods(value)


def texts() -> dict[str, str]:
    """All of infra/ as text, by path."""
    files = sorted(
        path for path in INFRA.rglob("*") if path.is_file() and "secrets/" not in str(path.relative_to(INFRA))
    )
    return {str(path.relative_to(INFRA)): path.read_text(encoding="utf8") for path in files}


def sources() -> str:
    """All Python of the packages."""
    return "\n".join(
        path.read_text(encoding="utf8")
        for package in ("cluster", "distill", "tune")
        for path in sorted((ROOT / package).rglob("*.py"))
    )


def commands(text: str) -> list[list[str]]:
    """Every `stillhouse ...` command in a text, as words; comments and what follows a pipe are cut."""
    joined = text.replace("\\\n", " ")
    found = re.findall(r"(?:^|[\s`(\"'])stillhouse ((?:[a-z]|-)[^\n`#|&)]*)", joined)
    return [line.split() for line in found]
