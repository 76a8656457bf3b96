"""The registry for browsing: its models, promotion of a version to champion, versions side by side.

A model is a dataset, a method, a kind of set and a budget (cluster/tracking/naming.py); its versions say in tags how
they were judged. Versions are compared by these tags alone; no file is read.
"""

from dataclasses import dataclass, field

from cluster.tracking import versions
from cluster.tracking.run import connect
from cluster.tracking.versions import BEST, CHAMPION

# isort: split
from mlflow import MlflowClient  # after cluster.tracking.run, which sets what mlflow reads when it is imported
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from distill.errors import StillhouseError, StoreError

JUDGED_BY = ("protocol", "network", "data_test", "data_train", "preprocess")
"""Tags in which versions must agree for their accuracies to be comparable."""


class PromotionRefused(StillhouseError):
    """A version that was not judged as the champion was."""


@dataclass(frozen=True)
class Version:
    """A registered version."""

    model: str
    number: int
    tags: dict[str, str]
    aliases: tuple[str, ...] = ()
    run_id: str = ""
    """MLflow's id of the run that published it."""

    @property
    def name(self) -> str:
        """As commands take it."""
        return f"{self.model}/{self.number}"

    @property
    def score(self) -> dict | None:
        """Accuracy on the test images; None if its tags do not say."""
        if "test_mean" not in self.tags:
            return None
        mean, std = (float(self.tags[f"test_{part}"]) for part in ("mean", "std"))
        return {"mean": mean, "std": std, "n": int(self.tags["test_n"])}


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model and its versions, newest first."""

    name: str
    description: str = ""
    versions: list[Version] = field(default_factory=list)

    def at(self, alias: str) -> Version | None:
        """The version with an alias."""
        return next((version for version in self.versions if alias in version.aliases), None)


def models(uri: str, contains: str = "") -> list[RegisteredModel]:
    """All registered models whose name contains a text, by name. Raises StoreError if the registry cannot be used."""
    try:
        client = connect(uri)
        found, token = [], None
        while token != "":
            page = client.search_registered_models(max_results=1000, page_token=token)
            found, token = found + list(page), page.token or ""
        return [_model(client, m.name) for m in sorted(found, key=lambda m: m.name) if contains in m.name]
    except MlflowException as error:
        raise StoreError(f"registry {uri}: {error}") from error


def version_of(model: str, uri: str) -> Version:
    """The version that `model` means, as for cluster.tracking.versions.find(). Raises StoreError if there is none."""
    try:
        client = connect(uri)
        found = versions.find(client, model)
        return _version(found, client.get_registered_model(found.name).aliases)
    except MlflowException as error:
        raise StoreError(
            f"registry {uri}, model {model}: {error}; `stillhouse models list` shows what there is"
        ) from error


def promote(model: str, uri: str, force: bool = False) -> tuple[Version, Version | None]:
    """Give the alias `champion` to a version; returns it and the former champion of its model.

    Raises PromotionRefused if it was judged by another protocol or network, or on other data, than the champion, unless
    `force` is set.
    """
    chosen = version_of(model, uri)
    try:
        client = connect(uri)
        holder = client.get_registered_model(chosen.model).aliases.get(CHAMPION)
        former = _version(client.get_model_version(chosen.model, str(holder)), {CHAMPION: holder}) if holder else None
        if former and not force and (faults := differences(former, chosen)):
            lines = "\n".join(f"  {tag}: {new}; champion: {old}" for tag, old, new in faults)
            raise PromotionRefused(
                f"{chosen.name} was not judged as the champion {former.name} was, so their accuracies do not say which "
                f"is better:\n{lines}\n  --force promotes it all the same"
            )
        client.set_registered_model_alias(chosen.model, CHAMPION, str(chosen.number))
    except MlflowException as error:
        raise StoreError(f"registry {uri}, model {model}: {error}") from error
    return chosen, former


def differences(a: Version, b: Version, tags: tuple[str, ...] = JUDGED_BY) -> list[tuple[str, str, str]]:
    """(tag, value of a, value of b) of the tags in which two versions differ; a tag that one lacks is unknown."""
    pairs = ((tag, a.tags.get(tag, "unknown"), b.tags.get(tag, "unknown")) for tag in tags)
    return [(tag, one, two) for tag, one, two in pairs if one != two]


def _model(client: MlflowClient, name: str) -> RegisteredModel:
    whole = client.get_registered_model(name)
    found = client.search_model_versions(f"name = '{name}'")
    newest_first = sorted((_version(v, whole.aliases) for v in found), key=lambda v: -v.number)
    return RegisteredModel(name, whole.description or "", newest_first)


def _version(version: ModelVersion, aliases: dict[str, str]) -> Version:
    """With those of the model's aliases that are its own, `best` and `champion` first."""
    own = sorted(a for a, number in aliases.items() if int(number) == int(version.version))
    own.sort(key=lambda alias: alias not in (BEST, CHAMPION))
    return Version(version.name, int(version.version), dict(version.tags), tuple(own), version.run_id or "")
