"""Ray, joined or started.

Where RAY_ADDRESS is set, as it is in a job that `ray job submit` started, the command joins that cluster. Elsewhere
this machine is a cluster of its own while the command runs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


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
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if not is_private():
        ray.init(address="auto", **quiet)
    else:
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # for 2: how late a short job is seen to end
        ray.init(address="local", include_dashboard=False, **quiet)


def is_private() -> bool:
    """Whether this Ray was started for the command alone and ends with it."""
    return not os.environ.get("RAY_ADDRESS")


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """Where an actor that a command depends on belongs: it lives as long as the command's own node does."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def cores() -> int:
    """CPU cores of the whole cluster."""
    return int(ray.cluster_resources().get("CPU", 1))


def gpus() -> int:
    """GPUs of the whole cluster."""
    return int(ray.cluster_resources().get("GPU", 0))
