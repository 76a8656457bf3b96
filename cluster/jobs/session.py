"""Ray, joined or started.

If RAY_ADDRESS is set, as it is in a job that `ray job submit` started, the command joins that cluster. Else this
machine is a cluster of its own while the command runs.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

if TYPE_CHECKING:
    from distill.data import Dataset


class Session:
    """A connection to Ray for the length of a command. Call `wait` or `share` before anything else of Ray is used."""

    def __init__(self, starting: Future):
        self._starting = starting
        self._warm = False
        self._shared: list[tuple[Dataset, ray.ObjectRef]] = []

    def wait(self) -> None:
        """Return once Ray runs, and have a worker process import what jobs need."""
        self._starting.result()
        if is_private() and not self._warm:
            self._warm = True
            ray.remote(num_cpus=0)(_import_ahead).remote()

    def share(self, dataset: "Dataset") -> ray.ObjectRef:
        """Ray's reference to a dataset for the workers of all jobs of the command; put into the object store once."""
        from cluster.jobs.datasets import share

        self.wait()
        for known, reference in self._shared:
            if known is dataset:
                return reference
        self._shared.append((dataset, share(dataset)))
        return self._shared[-1][1]


@contextmanager
def session() -> Iterator[Session]:
    """Start or join Ray in the background, while the command reads its data, and leave it at the end of the block."""
    if ray.is_initialized():
        ready = Future()
        ready.set_result(None)
        yield Session(ready)
        return
    # Linux ends Ray's processes together with the thread that started them: it lives until the pool is left.
    with ThreadPoolExecutor(1, "ray") as pool:
        starting = pool.submit(_connect)
        try:
            yield Session(starting)
        finally:
            starting.exception()  # waits
            ray.shutdown()


def _connect() -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if not is_private():
        ray.init(address="auto", **quiet)
        return
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # for 2: how late a short job is seen to end
    ray.init(address="local", include_dashboard=False, **quiet)


def _import_ahead() -> None:
    """What a job imports, while its driver opens the tracking store; the job finds this process idle and warm."""

    import cluster.jobs.distilling  # noqa: F401


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
