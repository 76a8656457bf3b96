"""Ray, joined or started.

If RAY_ADDRESS is set, as it is in a job that `ray job submit` started, the command joins that cluster. Else this
machine is a cluster of its own while the command runs: on loopback only, in a folder of this user's own.
"""

import atexit
import contextlib
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import ray
from ray._private import ray_constants
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.stopping import Stopped, end_children, kept_handler
from distill.errors import ClusterError

if TYPE_CHECKING:
    from distill.data import Dataset

ANSWER_SECONDS = 20.0
"""How long a cluster that RAY_ADDRESS names may take to answer."""
AGENT = re.compile(r"^ray::(Dashboard|RuntimeEnv)Agent|^\S+ -u \S+/(dashboard/agent|runtime_env/agent/main)\.py ")
STARTS = 3
"""How often a Ray of the command's own is started: an overloaded machine may need longer than Ray waits."""
LONGEST_FOLDER = 36
"""Letters of Ray's folder: the path of a socket has at most 107, and Ray appends 60 to 70."""


class Session:
    """A connection to Ray for the length of a command. Call `wait` or `share` before anything else of Ray is used."""

    def __init__(self, starting: Future):
        self._starting = starting
        self._deadline = time.monotonic() + ANSWER_SECONDS
        self._warm = False
        self._shared: list[tuple[Dataset, ray.ObjectRef]] = []

    def wait(self) -> None:
        """Return once Ray runs, and have a worker process import what jobs need. Raises ClusterError if it does not."""
        try:
            self._starting.result(None if is_private() else max(0.0, self._deadline - time.monotonic()))
        except TimeoutError:
            atexit.unregister(ray.shutdown)  # it would wait for the thread that still tries
            raise _no_answer("something listens there, but it does not answer as a Ray cluster does") from None
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
    """Start or join Ray in the background, while the command reads its data, and leave it at the end of the block.

    Raises ClusterError if nothing listens at RAY_ADDRESS. A command that is stopped does not wait for Ray to shut down.
    """
    starting, leave = Future(), threading.Event()
    if ray.is_initialized():
        starting.set_result(None)
        yield Session(starting)
        return
    if not is_private():
        check_address(os.environ["RAY_ADDRESS"])
    # Linux ends Ray's processes together with the thread that started them: it lives as long as the session.
    threading.Thread(target=_hold, args=(starting, leave), name="ray", daemon=True).start()
    try:
        yield Session(starting)
    except Stopped:
        raise  # main() ends the process, and Ray's with it: leaving in order takes seconds
    except BaseException:
        _leave(starting)
        raise
    else:
        _leave(starting)
    finally:
        leave.set()


def _hold(starting: Future, leave: threading.Event) -> None:
    """The thread of a session: connect, then stay."""
    try:
        _connect()
        watchman = _watchman() if is_private() else None
    except BaseException as error:
        starting.set_exception(error)
        return
    starting.set_result(None)
    leave.wait()
    if watchman:
        watchman.kill()
        watchman.wait()


def _watchman() -> subprocess.Popen:
    """A process that ends Ray's two agents when this one is killed: alone they would stay for a minute or longer.

    Linux ends all others of Ray's processes. It waits for the end of its input, which only this process can write to.
    """
    agents = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command = " ".join(child.cmdline())
            if AGENT.search(command):
                agents.append(str(child.pid))
    command = ["/bin/sh", "-c", 'read -r _; kill -9 "$@"', "sh", *agents]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _leave(starting: Future) -> None:
    if not is_private() and not starting.done():
        return
    starting.exception()  # waits
    ray.shutdown()


def _connect() -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    with kept_handler():
        if is_private():
            _start(quiet)
            return
        try:
            ray.init(address="auto", **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_answer(str(error).strip().splitlines()[0]) from None


def _start(quiet: dict) -> None:
    """A Ray for this command alone. Nothing of it listens beyond loopback."""
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # for 2: how late a short job is seen to end
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C is ours (cluster/stopping.py)
    # As on a Mac: Ray's node has the address 127.0.0.1, which Ray would replace by the machine's own here.
    ray_constants.ENABLE_RAY_CLUSTER = False
    for attempt in range(STARTS):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=ray_folder(),
                _system_config={"enable_metrics_collection": False},  # its port is on all interfaces
                **quiet,
            )
            return
        except Exception as error:  # Ray raises just that when its processes are not up after 30 s
            end_children()
            if attempt == STARTS - 1:
                raise ClusterError(f"Ray did not start on this machine, {STARTS} times: {error}") from error


def ray_folder() -> str:
    """Where a Ray of the command's own keeps its sockets and logs: `$RAY_TMPDIR`, else a folder of this user alone.

    Ray's default, /tmp/ray, belongs to whoever used Ray first on this machine.
    """
    if own := os.environ.get("RAY_TMPDIR"):
        return str(Path(own).absolute())
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - the folder below it is checked to be ours
        folder = Path(parent) / f"ray-of-{os.getuid()}"
        if len(str(folder)) > LONGEST_FOLDER:
            continue
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():  # another user made it, to be in the way
            return tempfile.mkdtemp(prefix="ray-", dir=parent)
        return str(folder)
    raise ClusterError(f"{tempfile.gettempdir()} and /tmp cannot hold Ray's sockets: set RAY_TMPDIR to a short folder")


def check_address(address: str) -> None:
    """Raise ClusterError unless something listens at host:port of RAY_ADDRESS; Ray itself would wait for minutes."""
    place = re.fullmatch(r"(?:\w+://)?\[?([^\[\]/]+?)\]?:(\d+)/?", address)
    if place is None:
        return  # "auto": Ray looks for it on this machine
    try:
        socket.create_connection((place[1], int(place[2])), timeout=ANSWER_SECONDS / 2).close()
    except OSError as error:
        raise _no_answer(error.strerror or str(error)) from None


def _no_answer(why: str) -> ClusterError:
    return ClusterError(
        f"no Ray cluster answers at RAY_ADDRESS={os.environ.get('RAY_ADDRESS')} ({why}): start it, or correct "
        "RAY_ADDRESS, or unset it to run on this machine alone"
    )


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


def nodes() -> list[dict[str, float]]:
    """CPUs and GPUs of each living node."""
    return [
        {name: node["Resources"].get(name, 0.0) for name in ("CPU", "GPU")} for node in ray.nodes() if node["Alive"]
    ]
