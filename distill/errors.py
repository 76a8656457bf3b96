"""Errors that users can fix: each says what is wrong, where, and how to fix it. The command line exits with code 2."""


class StillhouseError(ValueError):
    """Base of every error that the user can fix.

    Pickled by class, message and attributes, so that it passes from a worker to the command line even if the
    constructor of a subclass takes other arguments.
    """

    def __reduce__(self):
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[StillhouseError], arguments: tuple, attributes: dict) -> StillhouseError:
    error = kind.__new__(kind)
    error.args = arguments
    error.__dict__.update(attributes)
    return error


class RecipeError(StillhouseError):
    """A recipe that cannot run."""


class PlanError(StillhouseError):
    """A time in which no run fits."""


class DataError(StillhouseError):
    """A dataset that is missing, damaged or does not fit the recipe."""


class DeviceError(StillhouseError):
    """A device that the recipe requests but this machine or cluster does not have."""


class ClusterError(StillhouseError):
    """A Ray cluster that does not answer, or has no node that can hold a worker."""


class StoreError(StillhouseError):
    """A store that cannot be read or written."""


class AwayError(StoreError):
    """A store that does not answer now and may later."""


class MissingError(StoreError):
    """An object that does not exist."""


class ConflictError(StoreError):
    """An object that already exists with different bytes."""


class TrajectoryError(StillhouseError):
    """Trajectories that are missing, damaged, or of another network or dataset."""


class ExpertsMissing(TrajectoryError):
    """The store has no complete set of these experts, or one with too few experts."""


class WorkerError(RuntimeError):
    """An error in a worker that the user cannot fix; its message is the worker's traceback."""


class DivergedError(StillhouseError):
    """NaN or Inf in loss, pixels or learning rate."""


class StopRequested(Exception):
    """The command was asked to stop; the state after the last step is saved."""


class OutOfMemory(StillhouseError):
    """Out of memory; the message names settings that need less."""
