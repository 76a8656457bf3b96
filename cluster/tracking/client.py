"""MLflow's client, patient with a server or database that is away, and its errors in one line."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when mlflow is imported
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # 7 are four silent minutes; patiently() speaks

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from cluster.home import sqlite_file
from cluster.patience import first_line, is_disk_full, patiently
from distill.errors import StoreError
from distill.text import public

AWAY = re.compile(r"failed with exception|OperationalError|error code 5\d\d|response status 5\d\d")
"""What MLflow says if a server does not answer, or if the server's or its own database does not."""


class PatientClient:
    """Has the methods of MlflowClient; each waits for a tracking store that answered before."""

    def __init__(self, client: MlflowClient, uri: str):
        self._client, self._name = client, f"tracking store {public(uri)}"

    @property
    def at_once(self) -> MlflowClient:
        """The client that does not wait."""
        return self._client

    def __getattr__(self, name: str):
        method = getattr(self._client, name)
        if not callable(method):
            return method

        def patient(*arguments, **named):
            return patiently(lambda: method(*arguments, **named), is_away, self._name)

        return patient


def is_away(error: Exception) -> bool:
    """Whether a tracking store may answer later. A full disk does not go away by itself."""
    if is_disk_full(error):
        return False
    if isinstance(error, MlflowException):
        return error.error_code == "TEMPORARILY_UNAVAILABLE" or bool(AWAY.search(str(error)))
    return isinstance(error, ConnectionError) or type(error).__module__.startswith("requests")


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn errors of the tracking store into StoreErrors of one line, with a fix."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, MlflowException | OSError) and not type(error).__module__.startswith("sqlalchemy."):
            raise
        database = sqlite_file(uri)
        if is_disk_full(error):
            folder = database.parent if database else "the tracking server's disk"
            raise StoreError(
                f"tracking store {uri}: no space left in {folder}; free some, then run the same command again"
            ) from None
        fix = "fix it or set MLFLOW_TRACKING_URI to another, then run the same command again"
        raise StoreError(f"tracking store {uri}: {first_line(error)}; {fix}") from None
