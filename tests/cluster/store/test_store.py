"""What every store promises, over a folder and over a real S3 server."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.store import StoredObject, open_store, ray_url
from distill.errors import ConflictError, MissingError, StoreError

MIB = 1 << 20


class TestStore:
    def test_what_is_created_is_read(self, store):
        store.create("a/b.bin", b"hello")
        store.create("a/empty", b"")
        assert store.read("a/b.bin") == b"hello" and store.read("a/empty") == b""
        assert store.size("a/b.bin") == 5 and store.size("a/empty") == 0

    def test_a_file_is_created_from_its_path(self, store, tmp_path):
        data = os.urandom(11 * MIB)
        (tmp_path / "source").write_bytes(data)
        store.create("big", tmp_path / "source")
        store.create("big", data)
        assert store.read("big") == data
        with pytest.raises(ConflictError):
            store.create("big", data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(ConflictError):
            store.create("big", data[:-1])

    def test_a_source_that_is_missing_is_not_taken_for_an_object(self, store, tmp_path):
        with pytest.raises(FileNotFoundError):
            store.create("a", tmp_path / "nothing")

    @pytest.mark.parametrize("start, stop", [(0, 3), (2, 5), (4, None), (0, 99), (9, 99), (10, 11), (99, None), (3, 3)])
    def test_a_range_is_a_slice(self, store, start, stop):
        data = bytes(range(10))
        store.create("k", data)
        assert store.read("k", start, stop) == data[start:stop]

    def test_the_range_of_an_empty_object_is_empty(self, store):
        store.create("k", b"")
        assert store.read("k", 0, 5) == b""

    @pytest.mark.parametrize("start, stop", [(-1, None), (3, 2)])
    def test_a_range_that_is_none_is_refused(self, store, start, stop):
        store.create("k", b"0123")
        with pytest.raises(ValueError, match="range"):
            store.read("k", start, stop)

    def test_creating_the_same_again_succeeds(self, store):
        store.create("k", b"same")
        store.create("k", b"same")
        assert store.list("") == [StoredObject("k", 4)]

    @pytest.mark.parametrize("other", [b"soma", b"some more", b""])
    def test_creating_other_bytes_is_a_conflict_and_changes_nothing(self, store, other):
        store.create("k", b"some")
        with pytest.raises(ConflictError, match="other bytes"):
            store.create("k", other)
        assert store.read("k") == b"some"

    def test_what_is_missing_is_said(self, store):
        store.create("a/b", b"x")
        for call in (store.size, store.read, lambda k: store.read(k, 2, 2), lambda k: store.read(k, 2, 4)):
            for key in ("a", "zz", "a/b/c"):
                with pytest.raises(MissingError):
                    call(key)

    def test_list_is_sorted_and_by_whole_segments(self, store):
        keys = ["a/b", "a/b/c", "a/bc", "a/b.x", "z"] if store.url.startswith("s3") else ["a/b/c", "a/bc", "a/b.x", "z"]
        for key in keys:
            store.create(key, key.encode())
        assert store.list("") == sorted(StoredObject(k, len(k)) for k in keys)
        assert [e.key for e in store.list("a/b/")] == ["a/b/c"]
        assert [e.key for e in store.list("a/b")] == [k for k in ("a/b", "a/b/c") if k in keys]
        assert [e.key for e in store.list("z")] == ["z"]
        assert store.list("nothing") == store.list("nothing/") == []

    def test_list_finds_more_than_a_page(self, store):
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda i: store.create(f"many/k{i:04d}", b"x"), range(1001)))
        assert [e.key for e in store.list("many")] == [f"many/k{i:04d}" for i in range(1001)]

    def test_delete_takes_the_prefix_and_nothing_else(self, store):
        for key in ("set/a", "set/b/c", "settle", "other"):
            store.create(key, b"x")
        gone = [StoredObject("set/a", 1), StoredObject("set/b/c", 1)]
        assert store.delete("set", dry_run=True) == gone
        assert len(store.list("")) == 4
        assert store.delete("set", dry_run=False) == gone
        assert [e.key for e in store.list("")] == ["other", "settle"]
        assert store.delete("set", dry_run=False) == []
        store.create("set/a", b"new")
        assert store.read("set/a") == b"new"

    @pytest.mark.parametrize("prefix", ["", "/"])
    def test_deleting_everything_is_refused(self, store, prefix):
        store.create("k", b"x")
        with pytest.raises(StoreError, match="everything"):
            store.delete(prefix, dry_run=False)
        assert store.list("") == [StoredObject("k", 1)]

    @pytest.mark.parametrize(
        "key",
        ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a..b", "A", "a b", ".a", "-a", "_a", "a\n", "ä",
         "a\\b", "a\0", "a" * 64, "%2e%2e", "~", "a/.tmp-1"],
    )  # fmt: skip
    def test_a_key_off_the_allow_list_is_refused_everywhere(self, store, key):
        for call in (lambda k: store.create(k, b"x"), store.read, store.size):
            with pytest.raises(StoreError, match="key"):
                call(key)
        if key.strip("/"):
            for call in (store.list, lambda k: store.delete(k, dry_run=False)):
                with pytest.raises(StoreError, match="key") if key != "a/" else _fine():
                    call(key)
        assert store.list("") == []

    @pytest.mark.parametrize("key", ["a", "0", "a" * 63, "a.b-c_d", "x/y/z.arrow"])
    def test_a_key_on_the_allow_list_is_taken(self, store, key):
        store.create(key, b"x")
        assert store.list("") == [StoredObject(key, 1)]

    def test_checking_that_it_is_writable_leaves_nothing(self, store):
        store.check_writable()
        assert store.list("") == []

    def test_its_url_opens_it_again(self, store, tmp_path, monkeypatch):
        store.create("k", b"x")
        monkeypatch.chdir(tmp_path)
        assert open_store(store.url).read("k") == b"x"
        assert open_store(store.url).url == store.url

    @pytest.mark.parametrize("size", [100, 6 * MIB])
    def test_of_sixteen_writers_one_wins(self, store, size):
        outcomes = _race([(store, "k", bytes([i]) * size) for i in range(16)])
        winner = store.read("k")
        assert winner == bytes([winner[0]]) * size
        assert outcomes == ["won" if i == winner[0] else "conflict" for i in range(16)]

    def test_sixteen_writers_of_the_same_all_succeed(self, store):
        assert _race([(store, "k", b"same" * 1000)] * 16) == ["won"] * 16
        assert store.read("k") == b"same" * 1000


@pytest.mark.parametrize("url", ["", "file:", "/tmp/x", "http://x/y", "file://host/x", "S3://x", "s3:bucket", "s3://"])
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(StoreError, match="file:PATH or s3://|write s3://"):
        open_store(url)


def _race(writes: list[tuple]) -> list[str]:
    """Start all creates at once; "won" or "conflict" for each."""
    gate = threading.Barrier(len(writes))

    def write(job):
        store, key, data = job
        gate.wait()
        try:
            store.create(key, data)
        except ConflictError:
            return "conflict"
        return "won"

    with ThreadPoolExecutor(len(writes)) as pool:
        return list(pool.map(write, writes))


class _fine:
    """In place of pytest.raises: no error is expected."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


@pytest.mark.parametrize(
    "url, expected",
    [
        ("s3://bucket/x?endpoint=http://127.0.0.1:9000",
         "s3://bucket/x/ray/a?scheme=http&endpoint_override=127.0.0.1:9000"),
        ("s3://bucket?endpoint=https://[::1]:9/&region=eu-west-1&path_style=1",
         "s3://bucket/ray/a?scheme=https&endpoint_override=[::1]:9&region=eu-west-1"),
        ("s3://bucket/x/", "s3://bucket/x/ray/a"),
        ("file:/is it?/store", "/is it?/store/ray/a"),
    ],
)  # fmt: skip
def test_ray_is_sent_to_the_same_place_with_the_same_options(monkeypatch, url, expected):
    monkeypatch.delenv("STILLHOUSE_S3_PATH_STYLE", raising=False)
    assert ray_url(url, "ray/a") == expected
