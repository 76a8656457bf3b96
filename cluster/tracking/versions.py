"""Which version of a registered model is meant, and which is the best.

    digits-mtt-pixels-1ipc@best     the version of a model with an alias; /3 its version 3
    digits@best                     of all versions that the recipe `digits` made, the best
    digits-0123456789abcdef-160     the version that this run made

Registries of earlier versions have one model per recipe; these models are found by their own names.
"""

import re

from cluster.tracking.run import connect  # noqa: F401  before mlflow, as it sets what mlflow reads when it is imported

# isort: split
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from distill.errors import StoreError

REFERENCE = re.compile(r"(?:models:/)?(?P<name>[a-z0-9][a-z0-9_-]{0,62})(?:@(?P<alias>[\w-]+)|/(?P<version>\d+))?")
ACCURACY = "selection_accuracy"
SELECTION = "selection"
RECIPE, RUN = "recipe", "run_id"
MOST_TRIES = 50
"""Changes of an alias by others that a publication outlasts."""
BEST, LATEST, CHAMPION = "best", "latest", "champion"


def find(client: MlflowClient, model: str) -> ModelVersion:
    """The version that `model` means: NAME, NAME@alias or NAME/3, each also after `models:/`.

    NAME is a registered model, a recipe or a run; of the versions that a recipe or a run made, `best` (the default) is
    the one with the best rank(), `latest` the newest, and another alias the newest that has it in its own model. Raises
    StoreError for another form, MlflowException if there is none.
    """
    reference = REFERENCE.fullmatch(model)
    if reference is None:
        raise StoreError(f"model {model!r}: write it as name, models:/name@alias or models:/name/3")
    name, alias = reference["name"], reference["alias"] or BEST
    if reference["version"]:
        return client.get_model_version(name, reference["version"])
    made = _made_by(client, name)
    if not made:
        return client.get_model_version_by_alias(name, alias)
    if exists(client, name):  # of an earlier version, which named models after recipes
        made += client.search_model_versions(f"name = '{name}'")
    if alias == BEST:
        return max(made, key=rank)
    if alias != LATEST:
        made = [version for version in made if _has(client, version, alias)]
    if not made:
        raise MlflowException(f"no version that {name} made is @{alias}")
    return max(made, key=lambda version: version.creation_timestamp)


def rank(version: ModelVersion) -> tuple[bool, float, int, int]:
    """The best version has the highest: selected on held-out images, then selection accuracy, then the newest."""
    held_out = version.tags.get(SELECTION) != "best-on-test"
    accuracy = float(version.tags.get(ACCURACY, "-inf"))
    return held_out, accuracy, version.creation_timestamp, int(version.version)


def point_to_best(client: MlflowClient, name: str, alias: str = BEST) -> ModelVersion:
    """Let the alias of a model point to its best version, which is returned.

    Repeated until a look after the last change confirms it: of several processes that publish at once, whichever
    changes the alias last sees the versions of all.
    """
    for _ in range(MOST_TRIES):
        top = max(client.search_model_versions(f"name = '{name}'"), key=rank)
        if int(client.get_registered_model(name).aliases.get(alias, 0)) == int(top.version):
            return top
        client.set_registered_model_alias(name, alias, top.version)
    raise StoreError(f"model {name}: its alias {alias} was changed {MOST_TRIES} times meanwhile: publish again")


def exists(client: MlflowClient, name: str) -> bool:
    """Whether there is a registered model of this name."""
    return bool(client.search_registered_models(f"name = '{name}'", max_results=1))


def _made_by(client: MlflowClient, name: str) -> list[ModelVersion]:
    """The versions that a recipe, or else a run, made."""
    for tag in (RECIPE, RUN):
        if found := client.search_model_versions(f"tags.{tag} = '{name}'"):
            return list(found)
    return []


def _has(client: MlflowClient, version: ModelVersion, alias: str) -> bool:
    return str(client.get_registered_model(version.name).aliases.get(alias)) == str(version.version)
