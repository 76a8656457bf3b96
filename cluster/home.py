"""Where things live on this machine, and the command that shows them in a browser.

Unless other places are set, one folder holds everything a run leaves behind: `$STILLHOUSE_HOME`, else `~/stillhouse`.
Nothing here creates a file or a folder, and nothing imports mlflow.
"""

import os
import sys
from pathlib import Path

from distill.errors import StoreError


def home() -> Path:
    """The absolute folder of this user's stores, tracking database and artifacts. It may not exist yet."""
    return Path(os.environ.get("STILLHOUSE_HOME") or "~/stillhouse").expanduser().absolute()


def store_url(override: str | None = None) -> str:
    """URL of the object store: `override`, else `$STILLHOUSE_STORE`, else the folder `store` of home()."""
    return override or os.environ.get("STILLHOUSE_STORE") or f"file:{home()}/store"


def tracking_uri() -> str:
    """URI of the MLflow tracking store: `$MLFLOW_TRACKING_URI`, else a SQLite file in home(). A file is absolute.

    Workers run in folders of their own, where a relative one would be another. Raises StoreError for a path that
    MLflow would cut or misread.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home()}/mlflow.db"
    given = bool(os.environ.get("MLFLOW_TRACKING_URI"))
    path, question, options = uri.removeprefix("sqlite:///").partition("?")
    if not uri.startswith("sqlite:///") or path in ("", ":memory:"):
        return uri
    if "%" in path or (question and not given):
        raise StoreError(
            f"tracking store {uri}: MLflow cannot have its database in a folder with '%' or '?' in its path; set "
            "STILLHOUSE_HOME or MLFLOW_TRACKING_URI to another"
        )
    return f"sqlite:///{Path(path).absolute()}{question}{options}"


def sqlite_file(uri: str) -> Path | None:
    """The database file of a `sqlite:///` URI, absolute; None for every other kind of tracking store."""
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    return Path(path).absolute() if uri.startswith("sqlite:///") and path else None


def artifact_root(uri: str | None = None) -> str | None:
    """File URI of the folder `artifacts` beside a SQLite tracking database; by default that of tracking_uri().

    None if the tracking store is a server, which knows where its artifacts go.
    """
    database = sqlite_file(uri or tracking_uri())
    return (database.parent / "artifacts").as_uri() if database else None


def ui_command(uri: str | None = None, port: int = 5000) -> list[str]:
    """The command that serves MLflow's page for a SQLite tracking store on http://127.0.0.1:port, until stopped.

    Run it with ui_environment(). Raises StoreError when the store is a server, which has a page of its own.
    """
    uri = uri or tracking_uri()
    root = artifact_root(uri)
    if root is None:
        raise StoreError(f"tracking store {uri} has a page of its own: open that, or unset MLFLOW_TRACKING_URI")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--artifacts-destination", root]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def ui_environment() -> dict[str, str]:
    """The environment for ui_command(): no telemetry, none of the job processes that only hosted features need."""
    return {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
