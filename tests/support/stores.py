"""Stores that wrap another: one that fails, one that records its calls."""

import threading
from collections.abc import Callable

from cluster.store import Store
from distill.errors import StoreError


class Watched(Store):
    """Passes everything on to `inner`, after calling `before(operation, key, start, stop)`, which may raise or wait."""

    def __init__(self, inner: Store, before: Callable[..., None] = lambda *call: None):
        self.inner = inner
        self.before = before
        self.calls: list[tuple] = []
        self._lock = threading.Lock()

    @property
    def url(self):
        return self.inner.url

    def _check_writable(self):
        self.inner._check_writable()

    def _create(self, key, data):
        self._note("create", key)
        self.inner._create(key, data)

    def _read(self, key, start, stop):
        self._note("read", key, start, stop)
        return self.inner._read(key, start, stop)

    def _size(self, key):
        self._note("size", key)
        return self.inner._size(key)

    def _list(self, folder):
        self._note("list", folder)
        return self.inner._list(folder)

    def _delete(self, keys):
        for key in keys:
            self._note("delete", key)
            self.inner._delete([key])

    def _sweep(self, folder):
        self.inner._sweep(folder)

    def _note(self, operation, key, start=None, stop=None):
        with self._lock:
            self.calls.append((operation, key, start, stop))
        self.before(operation, key, start, stop)


def failing(inner: Store, every: int) -> Watched:
    """A store of which every k-th operation fails, before or, in turns, after it was done."""
    store = Watched(inner)
    done_anyway = set()

    def before(operation, key, start, stop):
        number = len(store.calls)
        if number % every == 0:
            if operation == "create" and number // every % 2 == 0:
                done_anyway.add(key)  # the answer is lost, not the object
                return
            raise StoreError(f"operation {number} ({operation} {key}) failed as planned")

    create = store._create

    def create_then_fail(key, data):
        create(key, data)
        if key in done_anyway:
            done_anyway.discard(key)
            raise StoreError(f"the answer to create {key} was lost as planned")

    store.before = before
    store._create = create_then_fail
    return store
