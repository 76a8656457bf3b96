"""The whole recipe: its blocks, what must agree between them, and the names that follow from it."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from distill.recipe.dataset import Dataset
from distill.recipe.experts import Experts
from distill.recipe.network import ConvNet, Network
from distill.recipe.objective import ObjectiveSettings, Trajectory
from distill.recipe.outer import Evaluation, Outer
from distill.recipe.settings import Name, Settings
from distill.recipe.synthetic import Pixels, SyntheticSettings

EXPERTS_RUN_BY = ("workers", "gpus_per_worker", "state_every")
"""Settings of the experts that decide how they are trained and not what comes out."""
EVALUATION_ASIDES = ("networks", "workers", "baselines")
"""Settings of the evaluation that a run does not depend on."""


class Recipe(Settings):
    """Everything a run depends on."""

    name: Name
    paper: str = ""
    """Where the settings come from."""
    expected: str = ""
    """The figure to expect."""
    seed: Annotated[int, Field(ge=0)] = 0
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads per worker (0: all cores shared evenly). Bits on CPU depend on it."""
    dataset: Dataset
    network: Network = ConvNet()
    experts: Experts = Experts()
    synthetic: SyntheticSettings = Pixels()
    objective: ObjectiveSettings = Trajectory()
    outer: Outer = Outer()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _settings_agree(self):
        o = self.objective
        if o.kind == "trajectory" and o.max_start_epoch + o.expert_epochs > self.experts.epochs:
            raise ValueError(
                f"objective.max_start_epoch + objective.expert_epochs = {o.max_start_epoch + o.expert_epochs} "
                f"is beyond experts.epochs = {self.experts.epochs}: lower them or save more epochs"
            )
        if o.kind == "trajectory" and o.min_start_epoch >= (o.widen_from or o.max_start_epoch):
            raise ValueError("objective.min_start_epoch must be below the upper end of the start epochs")
        if o.kind == "trajectory" and o.widen_from > o.max_start_epoch:
            raise ValueError("objective.widen_from must not be above objective.max_start_epoch")
        if o.kind == "unrolled" and o.window > o.unroll:
            raise ValueError(f"objective.window = {o.window} is longer than objective.unroll = {o.unroll}")
        if o.kind == "unrolled" and o.pool and self.outer.workers > 1:
            raise ValueError("objective.pool needs outer.workers = 1: the pool is not shared between workers")
        if getattr(o, "segments", 1) % self.outer.workers:
            raise ValueError(f"objective.segments must be a multiple of outer.workers = {self.outer.workers}")
        return self

    @model_validator(mode="after")
    def _first_experts_are_some_of_all(self):
        o, e = self.objective, self.experts
        if o.kind == "trajectory" and o.first_experts > e.count:
            raise ValueError(f"objective.first_experts = {o.first_experts} is above experts.count = {e.count}")
        if o.kind == "trajectory" and o.first_experts % e.together:
            raise ValueError(f"objective.first_experts must be a multiple of experts.together = {e.together}")
        return self

    @model_validator(mode="after")
    def _matched_epochs_are_saved(self):
        o, saved = self.objective, self.experts.saved_epochs
        if o.kind != "trajectory" or o.trajectories:
            return self
        lost = [e for e in o.start_epochs(saved) if e + o.expert_epochs not in saved]
        if lost or not o.start_epochs(saved, o.widen_from or o.max_start_epoch):
            raise ValueError(
                f"experts.save_every = {self.experts.save_every} does not keep the epochs that are matched "
                f"(objective.expert_epochs = {o.expert_epochs} after each kept start epoch from "
                f"{o.min_start_epoch} below {o.max_start_epoch}): make objective.expert_epochs a multiple of "
                "experts.save_every, objective.min_start_epoch too, or set experts.save_every = 1"
            )
        return self

    def run_id(self, dataset: str) -> str:
        """Name of the run: the recipe's name and a digest of all that its result depends on.

        `dataset` is the fingerprint of the data, which stands for where the data lie. Workers, device, the number of
        judging networks and the baselines do not make another run.
        """
        return f"{self.name[:46]}-{digest({**self.decisive(), 'data': dataset})}"

    def decisive(self) -> dict[str, Any]:
        """The blocks without the dataset and what a run's result does not depend on; files by what they hold."""
        blocks = self.model_dump(mode="json", exclude={"name", "paper", "expected", "device", "dataset"})
        asides = (("outer", ("workers",)), ("evaluation", EVALUATION_ASIDES), ("experts", EXPERTS_RUN_BY))
        for block, key in ((block, key) for block, keys in asides for key in keys):
            del blocks[block][key]
        kind, _, path = getattr(self.synthetic, "embedding", "").partition(":")
        if kind == "file" and Path(path).is_file():
            blocks["synthetic"]["embedding"] = f"file:{hashlib.sha256(Path(path).read_bytes()).hexdigest()}"
        return blocks

    def experts_id(self, dataset: str) -> str:
        """Digest of all that expert i depends on; a set of experts is named by it."""
        experts = self.experts.model_dump(mode="json", exclude={"count", *EXPERTS_RUN_BY})
        return digest({"experts": experts, "network": self.network.model_dump(mode="json"), "data": dataset})


def digest(value: Any) -> str:
    """16 hex digits of the SHA-256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
