"""A request for an evaluation: which networks to train, on which data, with which experts for selectors.

request = request_for(recipe, (recipe.network,), published, store_url, notice)
request.digest(recipe.network)    # the name under which the figures are kept with the run
"""

from dataclasses import dataclass, field

import torch

from cluster.store import open_store
from cluster.trajectories import TrajectorySet
from distill import data
from distill.data import Dataset
from distill.data.images import Notice, silent
from distill.errors import DataError, ExpertsMissing
from distill.published import Published
from distill.recipe import Recipe, Settings, digest


@dataclass(frozen=True)
class EvaluationRequest:
    """What an evaluation is to measure."""

    recipe: Recipe
    """Its evaluation settings count; the data, the seed and the first kind of network come from it too."""
    networks: tuple[Settings, ...]
    full: bool = False
    """Train networks on all training images if the store holds no experts."""
    scores: bool = False
    """Also measure what the scores of DD-Ranking need."""
    data: dict[str, str] = field(default_factory=dict)
    """Digests of the data's parts (Raw.parts)."""
    data_seed: int | None = None
    """Seed of the data's split: the run's, whatever seed draws the networks (None: the recipe's)."""
    experts: str | None = None
    """The recipe's set of experts, whose features selectors use; None if the store does not hold it."""
    dataset: Dataset | None = field(default=None, compare=False, repr=False)
    """The data, if they were read before."""

    def load(self, notice: Notice = silent) -> Dataset:
        """The data on the CPU, read now unless they were before."""
        seed = self.recipe.seed if self.data_seed is None else self.data_seed
        return self.dataset or data.load(self.recipe.dataset, seed, torch.device("cpu"), notice)

    def digest(self, network: Settings) -> str:
        """Name of a result: all that it depends on besides the set."""
        dataset = self.recipe.dataset.model_dump(mode="json", exclude={"path"})
        return digest({
            "evaluation": self.recipe.evaluation.model_dump(mode="json", exclude={"workers"}),
            "network": network.model_dump(mode="json"),
            "trained as experts": self.recipe.experts.model_dump(mode="json") if self.full else None,
            "seed": self.recipe.seed, "dataset": dataset, "scores": self.scores, "data": self.data,
            "experts": self.experts,
        })  # fmt: skip


def request_for(
    recipe: Recipe,
    networks: tuple[Settings, ...],
    published: Published,
    store_url: str,
    notice: Notice = silent,
    dataset: Dataset | None = None,
    **more,
) -> EvaluationRequest:
    """The request to evaluate a set on the recipe's data as they are now; `dataset` if they were read before.

    Raises DataError if these are not the data that the set was distilled from.
    """
    seed = published.recipe["seed"]
    identity = (dataset.parts, dataset.fingerprint) if dataset else data.identify(recipe.dataset, seed, notice)
    parts, fingerprint = identity
    check_data(published, recipe, parts)
    name = recipe.experts_name(fingerprint)
    try:
        TrajectorySet(open_store(store_url), name).open()
    except ExpertsMissing:
        name = None
    return EvaluationRequest(recipe, networks, data=parts, data_seed=seed, experts=name, dataset=dataset, **more)


def check_data(published: Published, recipe: Recipe, parts: dict[str, str]) -> None:
    """Raise DataError unless networks would see these data as they saw those that the set was distilled from.

    The test images may be others. Sets of earlier versions do not tell from which images they are.
    """
    own, asked = published.recipe["dataset"], recipe.dataset.model_dump(mode="json")
    if own["preprocess"] != asked["preprocess"]:
        raise DataError(
            f"dataset.preprocess = {asked['preprocess']}: the set was distilled with {own['preprocess']}, and networks "
            "that train on it must see the test images so: leave dataset.preprocess as the run has it"
        )
    if published.data and parts["train"] != published.data["train"]:
        place = asked.get("path", asked["kind"])
        raise DataError(
            f"{place}: not the training images, labels and class names that the set was distilled from: "
            "leave dataset.path, size and limit as the run has them, or restore the files"
        )
