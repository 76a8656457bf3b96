"""The cache keeps what it may, notices what is damaged, and never stands in the way."""

import hashlib
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.store.cache import Cache


def blob(i: int, size: int = 1000) -> tuple[str, bytes]:
    data = i.to_bytes(4, "little") * (size // 4)
    return hashlib.sha256(data).hexdigest(), data


def never():
    raise AssertionError("asked the store for what the cache should have")


def held(cache: Cache, numbers) -> list[int]:
    return [i for i in numbers if (cache.folder / blob(i)[0]).exists()]


def objects(folder) -> list[str]:
    return [path.name for path in folder.iterdir()]


def total(cache: Cache) -> int:
    return sum(path.stat().st_size for path in cache.folder.iterdir())


def test_the_second_time_comes_from_the_disk(tmp_path):
    digest, data = blob(1)
    assert Cache(tmp_path / "deep/cache").fetch(digest, lambda: data) == data
    assert Cache(tmp_path / "deep/cache").fetch(digest, never) == data


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: b"", lambda d: d[:-1] + b"\xff", lambda d: d + b"x"])
def test_what_is_damaged_is_fetched_again(tmp_path, damage):
    cache, (digest, data) = Cache(tmp_path), blob(1)
    cache.fetch(digest, lambda: data)
    (tmp_path / digest).write_bytes(damage(data))
    assert cache.fetch(digest, lambda: data) == data
    assert cache.fetch(digest, never) == data


def test_it_stays_below_its_limit_and_drops_the_longest_unused(tmp_path):
    cache = Cache(tmp_path, limit=10_000)
    for i in range(9):
        digest, data = blob(i)
        cache.fetch(digest, lambda data=data: data)
        os.utime(tmp_path / digest, (i, i))
    assert held(cache, range(9)) == list(range(9))
    cache.fetch(blob(0)[0], never)  # used now
    for i in range(9, 13):
        digest, data = blob(i)
        cache.fetch(digest, lambda data=data: data)
        assert total(cache) <= 10_000
    kept = held(cache, range(13))
    assert 0 in kept and {9, 10, 11, 12} <= set(kept) and not {1, 2, 3} & set(kept)


def test_what_is_over_the_limit_alone_is_not_kept(tmp_path):
    cache, (digest, data) = Cache(tmp_path, limit=999), blob(1)
    assert cache.fetch(digest, lambda: data) == data
    assert objects(tmp_path) == []


def test_what_was_there_before_counts(tmp_path):
    for i in range(8):
        Cache(tmp_path, limit=10**6).fetch(blob(i)[0], lambda i=i: blob(i)[1])
    cache = Cache(tmp_path, limit=4000)
    cache.fetch(blob(99)[0], lambda: blob(99)[1])
    assert total(cache) <= 4000 and held(cache, [99]) == [99]


def test_many_threads_share_it(tmp_path):
    cache = Cache(tmp_path, limit=20_000)

    def use(k):
        digest, data = blob(k % 37)
        return cache.fetch(digest, lambda: data) == data

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(use, range(2000)))
    assert total(cache) <= 20_000 + 16 * 1000
    assert not list(tmp_path.glob(".tmp-*"))


def test_those_who_want_the_same_at_once_read_it_once(tmp_path):
    digest, data = blob(1)
    reads, all_asked = [], threading.Barrier(8)

    def read():
        reads.append(1)
        return data

    def use(_):
        all_asked.wait()
        return Cache(tmp_path).fetch(digest, read) == data  # as separate processes: nothing shared but the folder

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(8)))
    assert len(reads) == 1


def test_a_disk_that_cannot_be_written_is_said_once_and_does_without(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    cache = Cache(tmp_path / "file" / "cache")
    with caplog.at_level(logging.WARNING):
        for i in range(3):
            digest, data = blob(i)
            assert cache.fetch(digest, lambda data=data: data) == data
    assert len(caplog.records) == 1 and "free space or choose another folder" in caplog.text


def test_what_reading_raises_is_raised(tmp_path):
    with pytest.raises(AssertionError, match="asked"):
        Cache(tmp_path).fetch(blob(1)[0], never)
    assert objects(tmp_path) == []
