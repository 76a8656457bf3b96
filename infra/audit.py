"""What the installed packages are (a bill of materials in CycloneDX), and which have known vulnerabilities (pip-audit).

    make audit                                    # the packages of .venv; writes dist/sbom.json
    docker run --rm --entrypoint /opt/stillhouse/bin/pip IMAGE freeze > packages.txt
    .venv-audit/bin/python infra/audit.py packages.txt --sbom image.json

Runs in an environment of its own, with pip-audit and cyclonedx-bom. Exit code 0: no known vulnerability; 1: there are,
and they are listed; 3: the advisories of some package could not be had (no network, a mirror without them), so nothing
is known about it. With --offline-ok that is said and is no error.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PINNED = re.compile(r"([A-Za-z0-9][\w.-]*)==([\w.!-]+)(\+[\w.]+)?")
FOUND, UNKNOWN = 1, 3
BIN = Path(sys.executable).parent


def pinned(text: str) -> list[str]:
    """The lines NAME==VERSION of a `pip freeze`; advisories know no local versions, such as +cpu."""
    lines = (PINNED.fullmatch(line.split(";")[0].strip()) for line in text.splitlines())
    return [f"{line[1]}=={line[2]}" for line in lines if line]


def write_sbom(packages: Path, pyproject: Path, out: Path) -> None:
    """The bill of materials, with the project as its root."""
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [BIN / "cyclonedx-py", "requirements", "--pyproject", pyproject, "--of", "JSON", "-o", out, packages]
    subprocess.run(command, check=True)


def advisories(packages: Path) -> dict | str:
    """What pip-audit says of each package, or why it says nothing."""
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
    done = subprocess.run([BIN / "pip-audit", "-r", packages, *options], capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        return (done.stderr.strip().splitlines() or [f"pip-audit ended with {done.returncode}"])[-1]


def report(said: dict | str, count: int, offline_ok: bool) -> int:
    """Print what was found; the exit code."""
    if isinstance(said, str):
        print(f"NOT AUDITED: the advisory database could not be reached ({said})")
        return 0 if offline_ok else UNKNOWN
    skipped = [d["name"] for d in said["dependencies"] if "skip_reason" in d]
    faults = [(d["name"], d["version"], v) for d in said["dependencies"] for v in d.get("vulns", ())]
    for name, version, vulnerability in faults:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        print(f"{name} {version}: {vulnerability['id']}, fixed in {fixed}")
    if skipped:
        print(f"NOT AUDITED: the index has no advisories of {len(skipped)} of {count} packages: {', '.join(skipped)}")
    print(f"{len(faults)} known vulnerabilities in {count - len(skipped)} packages")
    if faults:
        return FOUND
    return UNKNOWN if skipped and not offline_ok else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, help="the output of pip freeze")
    parser.add_argument("--sbom", type=Path, help="where to write the bill of materials")
    parser.add_argument("--pyproject", type=Path, default=Path("pyproject.toml"))
    parser.add_argument("--offline-ok", action="store_true", help="advisories that cannot be had are no error")
    o = parser.parse_args()
    lines = pinned(o.packages.read_text())
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "requirements.txt"
        plain.write_text("\n".join(lines) + "\n")
        if o.sbom:
            write_sbom(plain, o.pyproject, o.sbom)
            print(f"{o.sbom}: {len(lines)} packages")
        return report(advisories(plain), len(lines), o.offline_ok)


if __name__ == "__main__":
    sys.exit(main())
