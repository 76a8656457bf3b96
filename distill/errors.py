"""Errors a user can meet: each says what was wrong, where, and the fix. The command line prints them and exits 2."""


class StillhouseError(ValueError):
    """Base of every error that is the user's to mend."""


class RecipeError(StillhouseError):
    """A recipe that cannot be run as written."""


class DataError(StillhouseError):
    """A dataset that is missing, damaged or does not fit the recipe."""


class DeviceError(StillhouseError):
    """A device that was asked for and is not there."""


class StoreError(StillhouseError):
    """A store that cannot be read or written."""


class MissingError(StoreError):
    """An object that is not there."""


class ConflictError(StoreError):
    """An object that exists with other bytes."""


class TrajectoryError(StillhouseError):
    """Trajectories that are missing, damaged, or of another network or dataset."""


class ExpertsMissing(TrajectoryError):
    """Experts that a run needs from now on, and that nobody is training."""


class WorkerError(RuntimeError):
    """An error in a worker that is not the user's to mend; carries the worker's traceback."""


class DivergedError(StillhouseError):
    """NaN or Inf in loss, pixels or learning rate."""


class OutOfMemory(StillhouseError):
    """Memory ran out; the message names the settings that lower it."""
