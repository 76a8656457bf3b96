"""A notice board between the workers of a job and its driver: an actor with a to-do list and a queue of events."""

from typing import Any

import ray


@ray.remote(num_cpus=0)
class Board:
    """Workers post events and take items; the driver drains the events."""

    def __init__(self, items: list[int] = ()):
        self.waiting = list(items)
        self.taken: dict[int, int] = {}
        self.events: list[dict] = []
        self.fault = False

    def join(self, rank: int, world: int) -> None:
        """A worker (re)starts: what it, or a rank that is no more, had taken and not finished waits again."""
        back = [item for r, item in self.taken.items() if r == rank or r >= world]
        self.taken = {r: item for r, item in self.taken.items() if item not in back}
        self.waiting = sorted(self.waiting + back)

    def take(self, rank: int) -> int | None:
        """The next item for a worker, which has finished the one before; None when nothing waits."""
        self.taken.pop(rank, None)
        if not self.waiting:
            return None
        self.taken[rank] = self.waiting.pop(0)
        return self.taken[rank]

    def post(self, event: dict[str, Any]) -> None:
        """Leave an event for the driver."""
        self.fault = self.fault or event["kind"] == "fault"
        self.events.append(event)

    def failed(self) -> bool:
        """Whether a worker posted a fault: then nobody need start again."""
        return self.fault

    def drain(self) -> list[dict]:
        """All events since the last call."""
        events, self.events = self.events, []
        return events
