"""Errors a user can meet: each says what was wrong, where, and the fix. The command line prints them and exits 2."""


class StillhouseError(ValueError):
    """Base of every error that the user can fix.

    Pickled by class, message and attributes, so that it passes from a worker to the command line whatever arguments the
    constructor of a subclass takes.
    """

    def __reduce__(self):
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[StillhouseError], arguments: tuple, attributes: dict) -> StillhouseError:
    error = kind.__new__(kind)
    error.args = arguments
    error.__dict__.update(attributes)
    return error


class RecipeError(StillhouseError):
    """A recipe that cannot be run as written."""


class DataError(StillhouseError):
    """A dataset that is missing, damaged or does not fit the recipe."""


class DeviceError(StillhouseError):
    """A device that the recipe names and this machine or cluster does not have."""


class StoreError(StillhouseError):
    """A store that cannot be read or written."""


class MissingError(StoreError):
    """An object that is not there."""


class ConflictError(StoreError):
    """An object that exists with other bytes."""


class TrajectoryError(StillhouseError):
    """Trajectories that are missing, damaged, or of another network or dataset."""


class ExpertsMissing(TrajectoryError):
    """The store holds no finished set of these experts, or one with too few of them."""


class WorkerError(RuntimeError):
    """An error in a worker that the user cannot fix; its message is the worker's traceback."""


class DivergedError(StillhouseError):
    """NaN or Inf in loss, pixels or learning rate."""


class OutOfMemory(StillhouseError):
    """Memory ran out; the message names the settings that lower it."""
