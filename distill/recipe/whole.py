"""The whole recipe: its blocks, what must agree between them, and the names that follow from it."""

import hashlib
import json
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from distill.recipe.dataset import Dataset
from distill.recipe.experts import Experts, ExpertUse
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
        self.objective.check(self)
        if self.objective.segments % self.outer.workers:
            raise ValueError(f"objective.segments must be a multiple of outer.workers = {self.outer.workers}")
        return self

    @property
    def expert_use(self) -> ExpertUse:
        """Whether the run needs experts: "required", "preferred" (used if the store holds them) or "none"."""
        uses = {self.objective.expert_use, self.synthetic.expert_use}
        return next((use for use in ("required", "preferred") if use in uses), "none")

    @property
    def experts_needed(self) -> int:
        """Experts that must be there before the run starts: all of them for an objective that reads them, a few for
        labels and starts."""
        if self.expert_use != "required":
            return 0
        if self.objective.expert_use == "required":
            return self.experts.count
        groups = -(-min(self.synthetic.most_experts, self.experts.count) // self.experts.together)
        return groups * self.experts.together

    def run_id(self, dataset: str) -> str:
        """Name of the run: its lineage and how many outer steps it takes.

        `dataset` is the fingerprint of the data, which stands for where the data are. Workers, device, the number of
        judging networks and the baselines do not make another run.
        """
        return f"{self.lineage(dataset)}-{self.outer.steps}"

    def lineage(self, dataset: str) -> str:
        """What runs share that differ in outer.steps alone: a longer one continues from a shorter one's checkpoint."""
        blocks = self.decisive()
        del blocks["outer"]["steps"]
        return f"{self.name[:39]}-{digest({**blocks, 'data': dataset})}"

    def decisive(self) -> dict[str, Any]:
        """The blocks without the dataset and what a run's result does not depend on; files by what they hold."""
        blocks = self.model_dump(mode="json", exclude={"name", "paper", "expected", "device", "dataset"})
        asides = (("outer", ("workers",)), ("evaluation", EVALUATION_ASIDES), ("experts", EXPERTS_RUN_BY))
        for block, key in ((block, key) for block, keys in asides for key in keys):
            del blocks[block][key]
        return blocks | {"synthetic": self.synthetic.decisive()}

    def experts_id(self, dataset: str) -> str:
        """Digest of all that expert i depends on; a set of experts is named by it."""
        experts = self.experts.model_dump(mode="json", exclude={"count", *EXPERTS_RUN_BY})
        return digest({"experts": experts, "network": self.network.model_dump(mode="json"), "data": dataset})


def digest(value: Any) -> str:
    """16 hex digits of the SHA-256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
