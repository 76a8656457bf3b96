"""What an evaluation is asked to measure: which networks, on which data, seen through which experts.

asked = ask(recipe, (recipe.network,), published, store_url, notice)
asked.digest(recipe.network)    # the name under which the figures are kept with the run
"""

from dataclasses import dataclass, field

from cluster.jobs import experts
from cluster.store import open_store
from cluster.trajectories import TrajectorySet
from distill import data
from distill.data.images import Notice, silent
from distill.errors import DataError, TrajectoryError
from distill.published import Published
from distill.recipe import Recipe, Settings, digest


@dataclass(frozen=True)
class Asked:
    """What an evaluation is to measure."""

    recipe: Recipe
    """Its evaluation settings count; the data, the seed and the first kind of network come from it too."""
    networks: tuple[Settings, ...]
    full: bool = False
    """Train networks on all training images where the store holds no experts."""
    scores: bool = False
    """Measure what the scores of DD-Ranking need."""
    data: dict[str, str] = field(default_factory=dict)
    """Digests of the data's parts (Raw.parts)."""
    data_seed: int | None = None
    """Seed of the data's split: the run's, whatever seed draws the networks (None: the recipe's)."""
    experts: str | None = None
    """The set of experts that the store holds, through which selectors look; None where there is none."""

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


def ask(
    recipe: Recipe,
    networks: tuple[Settings, ...],
    published: Published,
    store_url: str,
    notice: Notice = silent,
    **more,
) -> Asked:
    """What is asked for of a set, on the recipe's data as they lie there now.

    Raises DataError where these are not the data that the set was distilled from.
    """
    seed = published.recipe["seed"]
    parts, fingerprint = data.identify(recipe.dataset, seed, notice)
    check_data(published, recipe, parts)
    name = getattr(recipe.objective, "trajectories", "") or experts.name_of_set(recipe, fingerprint)
    try:
        TrajectorySet(open_store(store_url), name).open().close()
    except TrajectoryError:
        name = None
    return Asked(recipe, networks, data=parts, data_seed=seed, experts=name, **more)


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
