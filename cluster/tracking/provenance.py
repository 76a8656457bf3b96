"""Which Stillhouse made a set: package version and, in a checkout, git commit."""

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path


@cache
def code_version() -> dict[str, str]:
    """`stillhouse_version`, and `git_commit` if a git checkout tracks this file; `-changed` marks one with edits.

    Ray copies a working directory without its history, so jobs that are submitted with one have no commit.
    """
    found = {"stillhouse_version": version("stillhouse")}
    here = Path(__file__)
    if _git("ls-files", "--error-unmatch", here.name) and (commit := _git("rev-parse", "HEAD")):
        found["git_commit"] = commit + ("-changed" if _git("status", "--porcelain", "--untracked-files=no") else "")
    return found


def _git(*arguments: str) -> str:
    """What git says in the folder of this file; empty without git or outside of a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
