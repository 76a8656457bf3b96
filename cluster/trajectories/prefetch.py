"""Snapshots fetched while something else is computed."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Lock

Snapshot = tuple[int, int]
"""(expert, epoch)"""
THREADS = 4


class Prefetcher:
    """Runs `read(expert, epoch)` ahead of time in a few threads.

    Keeps the last two lists, since a step requests its snapshots before the previous step has used its own; older bytes
    are dropped, so memory holds the snapshots of two outer steps at most.
    """

    def __init__(self, read: Callable[[int, int], bytes]):
        self._read = read
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="prefetch")
        self._lists: deque[set[Snapshot]] = deque(maxlen=2)
        self._fetched: dict[Snapshot, Future[bytes]] = {}
        self._lock = Lock()

    def request(self, wanted: Iterable[Snapshot]) -> None:
        """Start fetching these; returns at once and raises nothing."""
        with self._lock:
            self._lists.append(set(wanted))
            kept = set().union(*self._lists)
            for old in self._fetched.keys() - kept:
                self._fetched.pop(old).cancel()
            for snapshot in self._lists[-1] - self._fetched.keys():
                self._fetched[snapshot] = self._pool.submit(self._read, *snapshot)

    def take(self, expert: int, epoch: int) -> bytes:
        """The bytes: from the background read if there is one, else read now. Raises what reading raised."""
        snapshot = (expert, epoch)
        with self._lock:
            fetched = self._fetched.get(snapshot)
        if fetched is None:
            return self._read(expert, epoch)
        try:
            return fetched.result()
        except CancelledError:  # another thread's list replaced this one
            return self._read(expert, epoch)
        finally:
            if fetched.cancelled() or fetched.exception():
                with self._lock:
                    self._fetched.pop(snapshot, None)  # the next call tries again

    def close(self) -> None:
        """Cancel the reads that have not started and wait for the others."""
        self._pool.shutdown(cancel_futures=True)
