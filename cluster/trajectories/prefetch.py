"""Snapshots fetched while something else is computed."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Lock

Wish = tuple[int, int]
"""(expert, epoch)"""
THREADS = 4


class Prefetcher:
    """Runs `read(expert, epoch)` ahead of time in a few threads.

    Remembers the last two wish lists, since the next one is made before the one before it is used; older bytes are
    let go, so that memory holds two outer steps' snapshots at most.
    """

    def __init__(self, read: Callable[[int, int], bytes]):
        self._read = read
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="prefetch")
        self._lists: deque[set[Wish]] = deque(maxlen=2)
        self._fetched: dict[Wish, Future[bytes]] = {}
        self._lock = Lock()

    def wish(self, wanted: Iterable[Wish]) -> None:
        """Start fetching these; returns at once and raises nothing."""
        with self._lock:
            self._lists.append(set(wanted))
            kept = set().union(*self._lists)
            for old in self._fetched.keys() - kept:
                self._fetched.pop(old).cancel()
            for wish in self._lists[-1] - self._fetched.keys():
                self._fetched[wish] = self._pool.submit(self._read, *wish)

    def take(self, expert: int, epoch: int) -> bytes:
        """The bytes: as soon as they are here if they were wished for, else read now. Raises what reading raised."""
        wish = (expert, epoch)
        with self._lock:
            fetched = self._fetched.get(wish)
        if fetched is None:
            return self._read(expert, epoch)
        try:
            return fetched.result()
        except CancelledError:  # another thread's wishes replaced this one
            return self._read(expert, epoch)
        finally:
            if fetched.cancelled() or fetched.exception():
                with self._lock:
                    self._fetched.pop(wish, None)  # asking again tries again

    def close(self) -> None:
        """Drop what was wished for and wait for the reads that are under way."""
        self._pool.shutdown(cancel_futures=True)
