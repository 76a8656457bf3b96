"""Several workers of a job as a group of Ray Train."""

import logging
import os
import tempfile
import uuid

import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from cluster.jobs.events import Note
from cluster.jobs.group import Job, Worker, in_worker
from cluster.jobs.session import is_private
from cluster.store import ray_url


def fit(job: Job, least: int, most: int) -> None:
    """Run a job in a group of workers until all return; a group whose worker dies is restarted whole.

    There are `most` workers, or, if `least` are fewer, as many as the cluster has room for.
    """
    workers = most if least == most else (least, most)
    with tempfile.TemporaryDirectory(prefix="stillhouse-train-") as scratch:
        trainer = _Trainer(
            _in_group,
            train_loop_config={"job": job},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=job.gpu > 0, resources_per_worker=job.resources),
            # Workers that share a GPU cannot talk by NCCL, and those of experts have nothing to say.
            torch_config=TorchConfig(backend="gloo") if 0 < job.gpu < 1 else None,
            run_config=RunConfig(
                name=f"stillhouse-{uuid.uuid4().hex[:12]}",
                storage_path=_storage(job.config["store"], scratch),
                failure_config=FailureConfig(max_failures=job.restarts),
            ),
        )
        trainer.fit()


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


def _in_group(config: dict) -> None:
    """What each worker of the group runs."""
    for name in ("ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
    job, context = config["job"], get_context()
    device = get_device() if job.gpu else torch.device("cpu")
    if job.elastic and context.get_world_rank() == 0:
        job.board.post.remote(Note(f"workers: {context.get_world_size()}"))
    in_worker(Worker(context.get_world_rank(), context.get_world_size(), device, job.board), job)


def _storage(store_url: str, scratch: str) -> str:
    """Where Ray Train keeps its own files: beside the objects if nodes share no disk, else in a temporary folder."""
    return ray_url(store_url, "ray") if store_url.startswith("s3:") else scratch
