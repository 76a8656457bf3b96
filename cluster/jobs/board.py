"""A notice board between the workers of a job and its driver: an actor with a to-do list and a queue of events."""

import time

import ray

from cluster.jobs.events import Event, Fault


@ray.remote(num_cpus=0)
class Board:
    """Workers post events and take items; the driver drains the events.

    The board of a job that must end in `seconds` keeps its time: workers, also on other nodes or started again after a
    kill, ask how many are left. Setting a clock in the meantime changes nothing.
    """

    def __init__(self, items: list[int] = (), seconds: float | None = None):
        self.waiting = list(items)
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.taken: dict[int, int] = {}
        self.events: list[Event] = []
        self.fault = False
        self.starts: dict[int, int] = {}
        self.stop = False

    def join(self, rank: int, world: int) -> int:
        """Called by a worker that starts, maybe again; returns how often this rank has started.

        Requeues the unfinished items of dead or restarted ranks.
        """
        back = [item for r, item in self.taken.items() if r == rank or r >= world]
        self.taken = {r: item for r, item in self.taken.items() if item not in back}
        self.waiting = sorted(self.waiting + back)
        self.starts[rank] = self.starts.get(rank, 0) + 1
        return self.starts[rank]

    def take(self, rank: int) -> int | None:
        """The next item for a worker, which has finished the one before; None when nothing is left."""
        self.taken.pop(rank, None)
        if not self.waiting:
            return None
        self.taken[rank] = self.waiting.pop(0)
        return self.taken[rank]

    def seconds_left(self) -> float | None:
        """How long the job may still take; None: as long as it needs."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def post(self, event: Event) -> None:
        """Leave an event for the driver."""
        self.fault = self.fault or isinstance(event, Fault)
        self.events.append(event)

    def failed(self) -> bool:
        """Whether a worker posted a fault: then no worker need start again."""
        return self.fault

    def ask_to_stop(self) -> None:
        """Ask the workers to save what they have and end."""
        self.stop = True

    def stopping(self) -> bool:
        """Whether the workers should save their state and end."""
        return self.stop

    def drain(self) -> list[Event]:
        """All events since the last call."""
        events, self.events = self.events, []
        return events
