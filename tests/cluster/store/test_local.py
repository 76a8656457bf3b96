"""The folder store when the disk fails, the process dies, or the folder is not what it should be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.store import base, open_store
from distill.errors import StoreError

CALLS = [(os, "fsync"), (os, "link"), (shutil, "copyfileobj")]


@pytest.fixture
def store(tmp_path):
    return open_store(f"file:{tmp_path}/store")


def test_opening_checking_and_looking_write_nothing(store, tmp_path):
    store.check_writable()
    assert store.list("") == [] and store.delete("a", dry_run=True) == []
    with pytest.raises(StoreError):
        store.read("a")
    with pytest.raises(StoreError):
        store.create("../a", b"x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("spelling", ["rel/x", "./rel/x", "~/rel/x", "{}/rel/x", "//{}/rel/x"])
def test_the_url_names_a_folder(tmp_path, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    store = open_store("file:" + spelling.format(tmp_path))
    store.create("a/k", b"x")
    assert (tmp_path / "rel/x/a/k").read_bytes() == b"x"
    assert store.url == f"file:{tmp_path}/rel/x"


@pytest.mark.parametrize("every", [1, 2, 3, 4, 5])
def test_a_disk_that_fails_every_kth_call_leaves_nothing_half_written(store, monkeypatch, every):
    calls = _fail_every(monkeypatch, every)
    failed = 0
    for i in range(12):
        data = bytes([i]) * 3_000_000
        try:
            store.create(f"a/k{i}", data)
        except StoreError as error:
            failed += 1
            assert "No space left" in str(error) and f"a/k{i}" in str(error)
        assert not list(Path(store.root).rglob(".tmp-*"))
        for entry in store.list(""):
            assert entry.size == 3_000_000
    monkeypatch.undo()
    assert failed and calls
    for i in range(12):
        store.create(f"a/k{i}", bytes([i]) * 3_000_000)
        assert store.read(f"a/k{i}") == bytes([i]) * 3_000_000


def test_a_write_that_dies_in_the_middle_is_not_seen_and_is_swept_later(store, tmp_path, monkeypatch):
    program = (
        "import os, shutil, sys\n"
        "from cluster.store import open_store\n"
        "def half(source, out, n):\n"
        "    out.write(source.read(1000)); out.flush(); print('half', flush=True); os.kill(os.getpid(), 9)\n"
        "shutil.copyfileobj = half\n"
        "open_store(sys.argv[1]).create('a/k', bytes(2000))\n"
    )
    child = subprocess.run([sys.executable, "-c", program, store.url], capture_output=True, cwd=Path.cwd())
    assert child.returncode == -9 and child.stdout == b"half\n"
    (left,) = store.root.rglob(".tmp-*")
    assert left.stat().st_size == 1000
    assert store.list("") == []
    store.create("a/k", bytes(2000))
    assert [e.key for e in store.delete("a", dry_run=False)] == ["a/k"]
    assert left.exists(), "a write in progress must not be swept"
    os.utime(left, (0, left.stat().st_mtime - base.STALE_SECONDS - 10))
    store.delete("a", dry_run=True)
    assert left.exists()
    store.delete("a", dry_run=False)
    assert not left.exists()


def test_foreign_files_are_not_objects(store):
    store.create("a/k", b"x")
    for name in (".hidden", "UPPER", "with space", ".tmp-1-2"):
        (store.root / "a" / name).write_bytes(b"y")
    assert [e.key for e in store.list("")] == ["a/k"]


def test_what_is_written_is_on_disk_before_it_has_its_name(store, monkeypatch):
    order = []
    for module, name in CALLS:
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, name=name, real=real, **k: (order.append(name), real(*a, **k))[1])
    store.create("k", b"x")
    assert order[order.index("copyfileobj") :] == ["copyfileobj", "fsync", "link", "fsync"]


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in ("file", "file/below"):
        with pytest.raises(StoreError, match="is a file; choose another"):
            open_store(f"file:{tmp_path}/{path}").check_writable()
        with pytest.raises(StoreError):
            open_store(f"file:{tmp_path}/{path}").create("k", b"x")


def test_a_root_without_permission_is_refused(store, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)  # root may write anywhere
    with pytest.raises(StoreError, match="no permission"):
        store.check_writable()


def test_a_name_cannot_be_object_and_folder(store):
    store.create("a/b", b"x")
    for key in ("a", "a/b/c"):
        with pytest.raises(StoreError, match="use another"):
            store.create(key, b"x")
    assert [e.key for e in store.list("")] == ["a/b"]


def test_a_folder_that_cannot_be_read_is_an_error_and_not_empty(store, monkeypatch):
    store.create("a/b/k", b"x")
    real = os.scandir

    def refuse(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read anything
    for call in (lambda: store.list(""), lambda: store.delete("a", dry_run=True)):
        with pytest.raises(StoreError, match="no permission .*store/a/b"):
            call()


def _fail_every(monkeypatch, every: int) -> list[str]:
    """Make every k-th disk operation report a full disk; the names of those made so far."""
    calls = []

    def failing(name, real):
        def call(*arguments, **keywords):
            calls.append(name)
            if len(calls) % every == 0:
                raise OSError(28, "No space left on device")
            return real(*arguments, **keywords)

        return call

    for module, name in CALLS:
        monkeypatch.setattr(module, name, failing(name, getattr(module, name)))
    return calls
