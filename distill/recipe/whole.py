"""The whole recipe: its blocks, the checks across blocks, and the run and expert ids derived from it."""

import hashlib
import json
from typing import Annotated, Any

from pydantic import Field, model_validator

from distill.recipe.dataset import Dataset
from distill.recipe.experts import Experts, ExpertUse
from distill.recipe.network import ConvNet, Network
from distill.recipe.objective import ObjectiveSettings, Trajectory
from distill.recipe.outer import Evaluation, Outer
from distill.recipe.settings import Device, Name, Settings, members
from distill.recipe.synthetic import Pixels, SyntheticSettings

EXPERTS_RUN_BY = ("workers", "gpus_per_worker", "state_every")
"""Settings of how experts are trained that do not change the experts."""
EVALUATION_ASIDES = ("networks", "workers", "baselines")
"""Settings of the evaluation that do not change the distilled set."""


class Recipe(Settings):
    """Everything a run depends on."""

    name: Name
    paper: str = ""
    """Source of the settings."""
    expected: str = ""
    """Accuracy to expect."""
    seed: Annotated[int, Field(ge=0)] = 0
    device: Device = "auto"
    """auto: CUDA if available, else the CPU."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads per worker (0: divide all cores evenly). On the CPU, the last bits of the results depend on it."""
    dataset: Dataset
    network: Network = ConvNet()
    experts: Experts = Experts()
    synthetic: SyntheticSettings = Pixels()
    objective: ObjectiveSettings = Trajectory()
    outer: Outer = Outer()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="before")
    @classmethod
    def _by_objective(cls, table: Any) -> Any:
        """Fill in the settings of the outer loop that the recipe leaves to its objective."""
        objective, outer = (
            (table.get(key, {}) for key in ("objective", "outer")) if isinstance(table, dict) else ((), ())
        )
        if not isinstance(objective, dict) or not isinstance(outer, dict):
            return table  # to be refused by its own block
        kind = objective.get("kind", "trajectory")
        chosen = next((m for m in members(ObjectiveSettings) if m.model_fields["kind"].default == kind), None)
        return {**table, "outer": {**chosen.outer_defaults(outer), **outer}} if chosen else table

    @model_validator(mode="after")
    def _settings_agree(self):
        self.objective.check(self)
        self.synthetic.check(self)
        self.outer.check_segments(self.objective.segments)
        return self

    @property
    def expert_use(self) -> ExpertUse:
        """Whether the run needs experts: "required", "preferred" (used if the store has them) or "none"."""
        uses = {self.objective.expert_use, self.synthetic.expert_use}
        return next((use for use in ("required", "preferred") if use in uses), "none")

    @property
    def experts_needed(self) -> int:
        """Number of experts that must be trained before the run starts: all if the objective reads trajectories, else
        the few whose features it uses, or that the synthetic set uses for its labels or initialisation."""
        if self.expert_use != "required":
            return 0
        users = [user for user in (self.objective, self.synthetic) if user.expert_use == "required"]
        most = max(self.experts.count if user.most_experts is None else user.most_experts for user in users)
        groups = -(-min(most, self.experts.count) // self.experts.together)
        return groups * self.experts.together

    @property
    def before(self) -> "Recipe | None":
        """The recipe of a run that must have ended before this one begins, as the set starts from what it published."""
        return self.synthetic.before(self)

    def after(self, steps: int) -> "Recipe":
        """This recipe with a run before it of as many outer steps."""
        return self.model_copy(update={"synthetic": self.synthetic.after(steps)})

    def run_id(self, dataset: str) -> str:
        """Name of the run: its lineage and its number of outer steps.

        `dataset` is the fingerprint of the data and replaces their path. Workers, device, the number of evaluation
        networks and the baselines do not change the name.
        """
        return f"{self.lineage(dataset)}-{self.outer.steps}"

    def lineage(self, dataset: str) -> str:
        """Common name of runs that differ only in outer.steps; a longer one continues a shorter one's checkpoint."""
        blocks = self.decisive()
        del blocks["outer"]["steps"]
        return f"{self.name[:39]}-{digest({**blocks, 'data': dataset})}"

    def decisive(self) -> dict[str, Any]:
        """The settings, except the dataset's, that the result of a run depends on; files by digest, not by path."""
        blocks = self.model_dump(mode="json", exclude={"name", "paper", "expected", "device", "dataset"})
        asides = (("outer", ("workers",)), ("evaluation", EVALUATION_ASIDES), ("experts", EXPERTS_RUN_BY))
        for block, key in ((block, key) for block, keys in asides for key in keys):
            del blocks[block][key]
        return blocks | {"synthetic": self.synthetic.decisive(), "objective": self.objective.decisive()}

    def experts_name(self, dataset: str) -> str:
        """Name of the set of experts that the run uses: the one that the recipe names, else its own."""
        return self.objective.expert_set or self.own_experts_name(dataset)

    def own_experts_name(self, dataset: str) -> str:
        """Name of the set that `stillhouse experts` trains for the recipe and the fingerprint of its data."""
        return f"{self.network.kind}-{self.experts_id(dataset)}"

    def experts_id(self, dataset: str) -> str:
        """Digest of everything that expert i depends on; it names the set of experts."""
        experts = self.experts.model_dump(mode="json", exclude={"count", *EXPERTS_RUN_BY})
        return digest({"experts": experts, "network": self.network.model_dump(mode="json"), "data": dataset})


def digest(value: Any) -> str:
    """16 hex digits of the SHA-256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
