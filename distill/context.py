"""The context of a run, passed to every Synthetic and Objective: data, network, expert trajectories, seed."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from distill import data, nets
from distill.data.base import Dataset
from distill.errors import DeviceError
from distill.nets import Network
from distill.recipe import Recipe

if TYPE_CHECKING:
    from distill.published import Published


class Trajectories(Protocol):
    """Snapshots of expert networks, in any kind of storage."""

    count: int
    epochs: list[int]

    def snapshot(self, expert: int, epoch: int) -> Tensor:
        """Flat parameters (p,) float32 on the CPU."""

    def prefetch(self, wanted: list[tuple[int, int]]) -> None:
        """Start reading (expert, epoch) pairs that will be needed soon."""


@dataclass(frozen=True)
class Context:
    """Everything that a run uses except what it learns."""

    recipe: Recipe
    data: Dataset
    network: Network
    device: torch.device
    experts: Trajectories | None = None
    before: "Published | None" = None
    """What the run published that must have ended before this one (recipe.before)."""

    @property
    def seed(self) -> int:
        return self.recipe.seed

    def with_experts(self, experts: Trajectories) -> "Context":
        """A copy with expert trajectories."""
        return replace(self, experts=experts)

    def after(self, before: "Published") -> "Context":
        """A copy with what the run before this one published."""
        return replace(self, before=before)

    @property
    def run_id(self) -> str:
        """Name of the run, from the recipe and the data."""
        return self.recipe.run_id(self.data.fingerprint)

    @property
    def before_id(self) -> str | None:
        """Name of the run that must have ended before this one (recipe.before), if there is one."""
        before = self.recipe.before
        if before is None:
            return None
        same = (before.dataset, before.seed) == (self.recipe.dataset, self.seed)
        return before.run_id(self.data.fingerprint if same else data.identify(before.dataset, before.seed)[1])

    @property
    def classes(self) -> int:
        return len(self.data.classes)


def device_of(name: str) -> torch.device:
    """The torch device of a recipe's `device`; auto is CUDA if available. Raises DeviceError if it does not exist."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DeviceError(f"device = {name!r}: this machine has {count} CUDA devices; set device to auto or cpu")
    return device


def prepare(
    recipe: Recipe,
    experts: Trajectories | None = None,
    device: torch.device | None = None,
    dataset: Dataset | None = None,
) -> Context:
    """Build the context of a recipe: load its data, unless `dataset` has them already, and build its network."""
    device = device or device_of(recipe.device)
    dataset = dataset.to(device) if dataset else data.load(recipe.dataset, recipe.seed, device)
    network = nets.build(recipe.network, dataset.shape, len(dataset.classes), recipe.objective.bf16)
    return Context(recipe, dataset, network, device, experts)
