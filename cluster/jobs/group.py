"""Running a function in workers on a cluster, with progress on the way and plain errors at the end.

One worker is a Ray task, which starts in about a second. Several are a group of Ray Train workers, which can talk to
each other (torch.distributed), start in ten seconds or more, and are imported only then (cluster/jobs/train_group.py).
"""

import contextlib
import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace

import ray
import torch

from cluster import patience
from cluster.jobs.board import Board
from cluster.jobs.events import Event, Fault, Note, Saved
from cluster.jobs.fitting import holds, refuse_unfit, threads_for
from cluster.jobs.session import gpus, is_private, nodes, on_this_node
from cluster.jobs.together import PeerLost
from cluster.stopping import Stopped
from distill.engine import allocator
from distill.errors import DeviceError, StillhouseError, StopRequested, WorkerError
from distill.recipe import Recipe
from distill.text import public

POLL_SECONDS = 0.25
ASK_SECONDS = 0.3
"""How often a worker asks whether to stop."""
LAST_SECONDS = 2.5
"""How long a command that is stopped waits for the last checkpoint of its workers."""
RESTARTS, ELASTIC_RESTARTS = 5, 100
"""Times that a worker whose process or node dies is started again; and if the number of workers may change, as it does
where nodes come and go."""

OnEvent = Callable[[Event], None]
Work = Callable[["Worker", dict], None]


@dataclass(frozen=True)
class Worker:
    """What a worker function gets: who it is, where it computes, and the board."""

    rank: int
    world: int
    device: torch.device
    board: "ray.actor.ActorHandle"
    asked: list[float] = field(default_factory=lambda: [0.0])
    """When the board was last asked whether to stop."""

    def post(self, event: Event) -> None:
        """Report something to the driver."""
        self.board.post.remote(replace(event, worker=self.rank))

    def stopping(self) -> bool:
        """Whether to save the state now and raise StopRequested: the user or the node's owner asks for it."""
        if preempted.is_set():
            return True
        if time.monotonic() - self.asked[0] < ASK_SECONDS:
            return False
        self.asked[0] = time.monotonic()
        return ray.get(self.board.stopping.remote())

    def deadline(self) -> float | None:
        """When the job must have ended, by this process' time.monotonic()."""
        left = ray.get(self.board.seconds_left.remote())
        return None if left is None else time.monotonic() + left

    def saved(self, what: str) -> None:
        """Called when the state is saved. In a process that got SIGTERM it does not return: Ray starts it again."""
        ray.get(self.board.post.remote(Saved(what)))
        if preempted.is_set():
            os._exit(128 + signal.SIGTERM)  # a process that ends so counts as killed: the job is not over

    def items(self) -> Iterator[int]:
        """Items from the board until none is left."""
        while (item := ray.get(self.board.take.remote(self.rank))) is not None:
            yield item


@dataclass(frozen=True)
class Job:
    """What every worker is sent."""

    work: Work
    config: dict
    board: "ray.actor.ActorHandle"
    threads: int
    """CPU threads of each worker."""
    gpu: float
    """Part of a GPU that each worker gets; 0 on the CPU."""
    elastic: bool = False
    """Whether the number of workers may change."""

    @property
    def restarts(self) -> int:
        """Times that a worker may be started again."""
        return ELASTIC_RESTARTS if self.elastic else RESTARTS

    @property
    def resources(self) -> dict[str, float]:
        """What one worker claims of the cluster."""
        return {"CPU": self.threads, "GPU": self.gpu} if self.gpu else {"CPU": self.threads}


def run(
    work: Work,
    config: dict,
    recipe: Recipe,
    workers: int | tuple[int, int],
    on_event: OnEvent,
    items=(),
    gpus_each: float = 1.0,
    deadline: float | None = None,
) -> None:
    """Run `work(worker, config)` in `workers` workers until all return, each with `gpus_each` of a GPU, if any.

    Of (least, most) workers there are as many as the cluster has room for, and again when it has lost or got a node.
    Worker.deadline() is the `deadline` (this process' time.monotonic()) by the clock of the worker's own process.

    Workers that die are restarted, up to 5 times, or 100 if their number may change; an error that a user can fix is
    raised here as it was there, any other as WorkerError. Raises ClusterError if no node can hold a worker.
    """
    least, most = workers if isinstance(workers, tuple) else (workers, workers)
    job = _job(work, config, recipe, most, _board(items, deadline), gpus_each, elastic=least < most)
    if items and is_private():
        least = most = _at_once(job, most)
    if waiting := refuse_unfit(job.resources, least, "the workers, threads or experts.gpus_per_worker"):
        on_event(Note(waiting))
    if most == 1:
        # Ray ends the process after a task with a GPU, and with it what PyTorch keeps of the GPU's memory.
        task = ray.remote(num_cpus=job.threads, num_gpus=job.gpu, max_retries=job.restarts)(_in_task)
        task = task.options(name="stillhouse-worker")
        watch(lambda: ray.get(task.remote(job)), job.board, on_event)
    else:
        from cluster.jobs import train_group

        watch(lambda: train_group.fit(job, least, most), job.board, on_event)


def _job(work: Work, config: dict, recipe: Recipe, workers: int, board, gpus_each: float, elastic: bool = False) -> Job:
    threads = recipe.threads or threads_for(workers, nodes())
    return Job(work, config, board, threads, gpus_each if uses_gpu(recipe.device) else 0, elastic)


def _at_once(job: Job, workers: int) -> int:
    """As many of the workers as this machine holds at once; at least 1. Those that take items do as well with fewer."""
    return max(1, min(workers, sum(holds(node, job.resources) for node in nodes())))


def _board(items, deadline: float | None):
    """A board that no other node's death can take away."""
    left = None if deadline is None else deadline - time.monotonic()
    return Board.options(scheduling_strategy=on_this_node()).remote(items, left)


def watch(job: Callable[[], object], board, on_event: OnEvent, savers: Callable[[], int] = lambda: 1) -> None:
    """Do the job in a thread while passing the board's events on; then raise the fault that a worker posted, if any.

    A signal thus interrupts a wait of Python's, not one inside Ray. When it stops the command, the workers are asked
    for a last checkpoint each, and it waits a little until `savers` of them have saved one.
    """
    faults, saved = [], []

    def drain() -> None:
        for event in ray.get(board.drain.remote()):
            match event:
                case Fault(error):
                    faults.append(error)
                case Saved(what):
                    saved.append(what)
                case _:
                    on_event(event)

    doing = in_thread(job)
    try:
        while not wait([doing], POLL_SECONDS).done:
            drain()  # may raise: a tracking server that is gone
    except Stopped as stop:
        board.ask_to_stop.remote()
        deadline = time.monotonic() + LAST_SECONDS
        while len(saved) < savers() and not doing.done() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 5)
            drain()
        stop.saved = "; ".join(saved)
        raise
    doing.result()
    drain()
    if faults:
        raise faults[0]


def in_thread(job: Callable[[], object]) -> Future:
    """What becomes of a job that runs in a thread which does not keep the process from ending."""
    done = Future()

    def run() -> None:
        try:
            done.set_result(job())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="job", daemon=True).start()
    return done


def _in_task(job: Job) -> None:
    """What the task of a single worker runs."""
    in_worker(Worker(0, 1, torch.device("cuda" if job.gpu else "cpu"), job.board), job)


def in_worker(worker: Worker, job: Job) -> None:
    """Run a job in this process, which is a worker's; an exception is posted as a fault."""
    torch.set_num_threads(job.threads)
    allocator.settle()
    if ray.get(worker.board.failed.remote()):
        return
    for what, name in (("store", "store"), ("tracking", "tracking store")):
        if url := job.config.get(what):  # the command has reached it, so it is waited for if it is away
            patience.expect(f"{name} {public(url)}")
    started = ray.get(worker.board.join.remote(worker.rank, worker.world))
    with _notes_to_driver(worker), _notice_of_preemption():
        try:
            if started > job.restarts + 1:
                raise WorkerError(
                    f"worker {worker.rank} was killed {started - 1} times: does its node have the memory?"
                )
            job.work(worker, job.config)
        except StopRequested:
            pass  # the command ends, and with it the other workers
        except PeerLost:
            raise  # no fault of the work: Ray starts the group again
        except Exception as error:
            # Ray restarts a group whose worker raises. That helps a worker that was killed; an exception would recur.
            known = isinstance(error, StillhouseError | WorkerError)
            fault = Fault(error if known else WorkerError(traceback.format_exc()))
            ray.get(worker.board.post.remote(fault))
            if worker.world > 1:
                raise  # the other workers wait for this one: end the group


preempted = threading.Event()
"""Set by SIGTERM to this worker's process: its node is about to go."""


@contextlib.contextmanager
def _notice_of_preemption() -> Iterator[None]:
    """SIGTERM sets `preempted` while the block runs, if this is the main thread, the only one that may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda signum, frame: preempted.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Notes(logging.Handler):
    """Passes the project's own log (what compiles, what is skipped) on to the driver."""

    def __init__(self, worker: Worker):
        super().__init__(logging.INFO)
        self.worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        self.worker.post(Note(record.getMessage()))


@contextlib.contextmanager
def _notes_to_driver(worker: Worker) -> Iterator[None]:
    """Rank 0 logs to the driver while the block runs; the process may serve another job afterwards."""
    log, notes = logging.getLogger("stillhouse"), _Notes(worker)
    if worker.rank == 0:
        log.setLevel(logging.INFO)
        log.addHandler(notes)
    try:
        yield
    finally:
        log.removeHandler(notes)


def uses_gpu(device: str) -> bool:
    """Whether workers of a recipe with this `device` get GPUs. Raises DeviceError if there are none."""
    if device == "cpu":
        return False
    if device.startswith("cuda") and not gpus():
        raise DeviceError(f"device = {device!r}: the cluster has no GPU; set device to auto or cpu")
    return gpus() > 0
