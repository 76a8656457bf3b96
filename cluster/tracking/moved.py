"""A home that was moved or copied finds its artifacts: MLflow keeps their absolute paths in its database.

    adopt(Path("/new/home/mlflow.db"))     # file:///old/home/artifacts/... becomes file:///new/home/artifacts/...

Only locations are changed whose files are in `artifacts` beside the database. Nothing here imports mlflow.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""The tables and columns of MLflow's database that hold paths of artifacts."""
WAIT = 60.0  # seconds for another process that writes


def adopt(database: Path) -> list[str]:
    """Make the locations in an existing database those of its own folder; returns the roots that were replaced.

    Raises sqlite3.Error if the file is no database or cannot be written.
    """
    here = (database.parent / "artifacts").as_uri()
    # Not mode=ro: after a kill in the middle of a write, the first to open the file rolls that back.
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=WAIT)) as reading:
        old = _elsewhere(reading, here, database.parent / "artifacts")
    if not old:
        return []
    with closing(sqlite3.connect(database, timeout=WAIT)) as writing, writing:
        tables = {name for (name,) in writing.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for root in old:
            for table, column in LOCATIONS:
                if table in tables:
                    writing.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608
                        (f"{here}/", len(root) + 2, len(root) + 1, f"{root}/"),
                    )
    return old


def _elsewhere(database: sqlite3.Connection, here: str, artifacts: Path) -> list[str]:
    """Other folders `artifacts` in which experiments are said to be whose files are here."""
    known = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'experiments'").fetchone()
    rows = database.execute("SELECT name, artifact_location FROM experiments") if known else ()
    roots = set()
    for name, location in rows:
        root = (location or "").removesuffix(f"/{name}")
        is_ours = root != location and root.startswith("file:") and unquote(urlparse(root).path).endswith("/artifacts")
        if is_ours and root != here and (artifacts / name).is_dir():
            roots.add(root)
    return sorted(roots)
