"""Running a function in a group of Ray Train workers, with progress on the way and plain errors at the end."""

import logging
import os
import tempfile
import threading
import traceback
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from cluster.jobs.board import Board
from cluster.jobs.session import cores, gpus, is_private, on_this_node
from distill import errors
from distill.engine import allocator
from distill.recipe import Recipe

POLL_SECONDS = 0.25
RESTARTS = 5

Event = Callable[[dict], None]


@dataclass(frozen=True)
class Worker:
    """What a worker function is told: who it is, where it computes, and the board."""

    rank: int
    world: int
    device: torch.device
    board: "ray.actor.ActorHandle"

    def post(self, kind: str, **what) -> None:
        """Tell the driver something."""
        self.board.post.remote({"kind": kind, "rank": self.rank, **what})


def run(
    work: Callable[[Worker, dict], None],
    config: dict,
    recipe: Recipe,
    workers: int,
    on_event: Event,
    items=(),
    gpus_each: float = 1.0,
) -> None:
    """Run `work(worker, config)` in `workers` Ray Train workers until all return, each with so much of a GPU.

    Workers that die are restarted, up to 5 times; an error that a user can mend is raised here as it was there.
    """
    told = _told(work, config, recipe, workers, items, gpus_each)
    if short := shortage(resources(told), workers, {"CPU": cores(), "GPU": gpus()}):
        on_event({"kind": "stage", "text": short})
    with tempfile.TemporaryDirectory(prefix="stillhouse-train-") as scratch:
        trainer = _Trainer(
            _in_worker,
            train_loop_config=told,
            scaling_config=ScalingConfig(
                num_workers=workers, use_gpu=told["gpu"] > 0, resources_per_worker=resources(told)
            ),
            # Workers that share a GPU cannot talk by NCCL, and those of experts have nothing to say.
            torch_config=TorchConfig(backend="gloo") if 0 < told["gpu"] < 1 else None,
            run_config=RunConfig(
                name=f"stillhouse-{uuid.uuid4().hex[:12]}",
                storage_path=config.get("ray_storage") or scratch,
                failure_config=FailureConfig(max_failures=RESTARTS),
            ),
        )
        _watch(trainer.fit, told["board"], on_event)


def run_one(work: Callable[[Worker, dict], None], config: dict, recipe: Recipe, on_event: Event, items=()) -> None:
    """Run `work(worker, config)` in one Ray task, which starts faster than a worker group."""
    told = _told(work, config, recipe, 1, items, 1.0)
    cpus, gpus_ = (resources(told).get(name, 0) for name in ("CPU", "GPU"))
    task = ray.remote(num_cpus=cpus, num_gpus=gpus_)(_in_task)
    _watch(lambda: ray.get(task.remote(told)), told["board"], on_event)


class _Trainer(TorchTrainer):
    """Ray Train without two helper processes that a Ray of the command's own has no use for (seen in Ray 2.60).

    One gives reserved resources back should the controller die, where here everything ends with the command. It asks
    the cluster that the last `ray start` on this machine left a note of: one that is gone is waited for, 12 s at the
    end of every job, and one that lives knows no such controller. The other hands out shards of Ray datasets; there are
    none.
    """

    def _create_default_callbacks(self) -> list:
        idle = ("PlacementGroupCleanerCallback", "DatasetsCallback") if is_private() else ()
        return [c for c in super()._create_default_callbacks() if type(c).__name__ not in idle]


def _told(work: Callable, config: dict, recipe: Recipe, workers: int, items, gpus_each: float) -> dict:
    """What every worker is sent."""
    threads = recipe.threads or max(1, cores() // workers)
    gpu = gpus_each if uses_gpu(recipe.device) else 0
    return {"work": work, "config": config, "board": _board(items), "threads": threads, "gpu": gpu}


def _board(items):
    """A board that no other node's death can take away."""
    return Board.options(scheduling_strategy=on_this_node()).remote(items)


def _watch(job: Callable[[], object], board, on_event: Event) -> None:
    """Do the job while passing the board's events on; then raise the fault that a worker posted, if any."""
    faults, stop = [], threading.Event()

    def drain() -> None:
        for event in ray.get(board.drain.remote()):
            faults.append(event) if event["kind"] == "fault" else on_event(event)

    def poll() -> None:
        while not stop.wait(POLL_SECONDS):
            drain()

    with ThreadPoolExecutor(1, "poll") as pool:
        polling = pool.submit(poll)
        try:
            job()
        finally:
            stop.set()
    polling.result()  # an error of on_event, such as a tracking server that is gone
    drain()
    if faults:
        raise getattr(errors, faults[0]["type"])(faults[0]["message"])


def _in_worker(told: dict) -> None:
    """What each worker of a Ray Train group runs."""
    context = get_context()
    device = get_device() if told["gpu"] else torch.device("cpu")
    _work(Worker(context.get_world_rank(), context.get_world_size(), device, told["board"]), told)


def _in_task(told: dict) -> None:
    """What the task of run_one runs."""
    _work(Worker(0, 1, torch.device("cuda" if told["gpu"] else "cpu"), told["board"]), told)


class _Notes(logging.Handler):
    """Passes the project's own log (what compiles, what is skipped) on to the driver."""

    def __init__(self, worker: Worker):
        super().__init__(logging.INFO)
        self.worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        self.worker.post("stage", text=record.getMessage())


def _work(worker: Worker, told: dict) -> None:
    _quiet()
    if worker.rank == 0:
        logging.getLogger("stillhouse").addHandler(_Notes(worker))
        logging.getLogger("stillhouse").setLevel(logging.INFO)
    torch.set_num_threads(told["threads"])
    allocator.settle()
    if ray.get(worker.board.failed.remote()):
        return
    ray.get(worker.board.join.remote(worker.rank, worker.world))
    try:
        told["work"](worker, told["config"])
    except Exception as error:
        # Ray restarts a group whose worker raises. That helps a worker that was killed; an exception would come again.
        known = isinstance(error, errors.StillhouseError)
        message = str(error) if known else traceback.format_exc()
        fault = {"kind": "fault", "type": type(error).__name__ if known else "WorkerError", "message": message}
        ray.get(worker.board.post.remote(fault))
        if worker.world > 1:
            raise  # the other workers wait for this one: end the group


def uses_gpu(device: str) -> bool:
    """Whether workers of a recipe with this `device` get GPUs. Raises DeviceError when it asks for one in vain."""
    if device == "cpu":
        return False
    if device.startswith("cuda") and not gpus():
        raise errors.DeviceError(f"device = {device!r}: the cluster has no GPU; set device to auto or cpu")
    return gpus() > 0


def resources(told: dict) -> dict[str, float]:
    """What one worker claims of the cluster."""
    return {"CPU": told["threads"], "GPU": told["gpu"]} if told["gpu"] else {"CPU": told["threads"]}


def shortage(each: dict[str, float], workers: int, there: dict[str, float]) -> str | None:
    """What to tell the user when the cluster has less than the workers claim: they wait until it has grown."""
    lacking = {name: amount * workers for name, amount in each.items() if amount * workers > there[name]}
    if not lacking:
        return None
    claims = ", ".join(f"{amount:g} {name}" for name, amount in lacking.items())
    have = ", ".join(f"{there[name]:g} {name}" for name in lacking)
    return (
        f"waiting for the cluster to grow: {workers} workers claim {claims}, it has {have}; lower the workers, threads "
        "or experts.gpus_per_worker if it cannot"
    )


def _quiet() -> None:
    for name in ("ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")


def scratch_url(store_url: str) -> str | None:
    """Where Ray Train may keep its own files when nodes share no disk: beside the objects; None for local stores."""
    return f"{store_url.partition('?')[0].rstrip('/')}/ray" if store_url.startswith("s3:") else None
