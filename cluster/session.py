"""Ray, joined or started: a cluster that is there is used, else this machine becomes one for as long as the command runs."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray  # noqa: E402


@contextmanager
def session() -> Iterator[None]:
    """A connection to Ray for the length of a command."""
    started = not ray.is_initialized()
    if started:
        _connect()
    try:
        yield
    finally:
        if started:
            ray.shutdown()


def _connect() -> None:
    quiet = {"log_to_driver": False, "configure_logging": True, "logging_level": "ERROR"}
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        # A private token: nobody else on this machine can reach the cluster, and no file is left in the home folder.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        ray.init(address="local", include_dashboard=False, **quiet)


def cores() -> int:
    """CPU cores of the whole cluster."""
    return int(ray.cluster_resources().get("CPU", 1))


def gpus() -> int:
    """GPUs of the whole cluster."""
    return int(ray.cluster_resources().get("GPU", 0))
