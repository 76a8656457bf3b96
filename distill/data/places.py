"""The file or folder that a recipe's path means, fetched if it is not on this machine."""

import os
import re
from pathlib import Path

from distill import remote
from distill.data.images import Notice, silent
from distill.errors import DataError
from distill.recipe import DatasetSettings, Files

SENT_BY_RAY = "working_dir_files"
"""The folder of a node below which Ray unpacks what `ray job submit --working-dir` sent."""
SENT = (
    "it was not among what `ray job submit --working-dir` sent, which leaves out what .gitignore lists (set "
    "RAY_RUNTIME_ENV_IGNORE_GITIGNORE=1 to send that too) and packs 512 MiB at most. Put the data where every node "
    "reads them: dataset.path or STILLHOUSE_DATA = a mounted folder or s3://bucket/data"
)


def local(settings: DatasetSettings, notice: Notice = silent) -> DatasetSettings:
    """The settings with a path on this machine, absolute; a url is fetched. DataError if it is absent."""
    if not isinstance(settings, Files):
        return settings
    return settings.model_copy(update={"path": str(locate(settings.path, notice))})


def locate(path: str, notice: Notice = silent) -> Path:
    """The file or folder a path means, in $STILLHOUSE_DATA or the working folder. DataError if absent."""
    scheme = re.match(r"([a-z0-9]+)://", path)
    if scheme:
        if scheme[1] not in remote.fetchers:
            raise DataError(
                f"{path}: {scheme[1]}:// is not among {', '.join(remote.fetchers) or 'what can be fetched'}"
            )
        return remote.fetchers[scheme[1]](path, notice)
    place = Path(os.environ.get("STILLHOUSE_DATA") or ".").absolute() / Path(path).expanduser()
    if not place.exists():
        fix = "correct dataset.path, or set STILLHOUSE_DATA to the folder that holds it"
        raise DataError(f"no file or folder {place}: {SENT if SENT_BY_RAY in place.parts else fix}")
    return place


def folder(path: str) -> Path:
    """The same if it must be a folder."""
    place = locate(path)
    if not place.is_dir():
        raise DataError(f"{place} is a file: set dataset.path to the folder that holds the dataset")
    return place
