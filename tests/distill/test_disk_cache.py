"""Entries appear whole, are made once, verified, limited; a disk that refuses costs the cache and not the run."""

import logging
import multiprocessing
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from distill.disk_cache import LOCK, STALE_SECONDS, TEMPORARY, Damaged, DiskCache


class Texts(DiskCache[str]):
    def load(self, path: Path) -> str:
        text = path.read_text()
        if not text.endswith("."):
            raise Damaged("no full stop")
        return text

    def save(self, value: str, path: Path) -> None:
        path.write_text(value)

    def size(self, value: str) -> int:
        return len(value)


class Folders(DiskCache[Path]):
    def load(self, path: Path) -> Path:
        if not (path / "whole").is_file():
            raise Damaged("no file `whole`")
        return path


def never():
    raise AssertionError("made again")


def fill(path: Path) -> None:
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "part").write_text("x" * 1000)
    (path / "whole").write_text("")


def test_a_value_is_made_once_and_nothing_else_is_left(tmp_path):
    assert Texts(tmp_path / "a", None).get("name", lambda: "Hello.") == "Hello."
    assert Texts(tmp_path / "a", None).get("name", never) == "Hello."
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["name"]


def test_a_folder_is_filled_once_and_nothing_else_is_left(tmp_path):
    place = Folders(tmp_path, None).place("name", fill)
    assert place == tmp_path / "name" and (place / "deep" / "part").is_file()
    assert Folders(tmp_path, None).place("name", lambda path: never()) == place
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


def test_what_fails_leaves_nothing(tmp_path):
    def half(path: Path) -> None:
        path.mkdir()
        raise RuntimeError("died")

    with pytest.raises(RuntimeError, match="died"):
        Folders(tmp_path, None).place("name", half)
    with pytest.raises(AssertionError, match="made again"):
        Texts(tmp_path, None).get("name", never)
    assert list(tmp_path.iterdir()) == []


def test_what_is_damaged_is_made_again_and_the_log_says_so(tmp_path, caplog):
    texts, folders = Texts(tmp_path, None), Folders(tmp_path, None)
    (tmp_path / "text").write_text("Hel")
    fill(tmp_path / "folder")
    (tmp_path / "folder" / "whole").unlink()
    assert texts.get("text", lambda: "Hello.") == "Hello." and texts.get("text", never) == "Hello."
    assert (folders.place("folder", fill) / "whole").is_file()
    assert [record.message for record in caplog.records] == [
        f"cache {tmp_path}/text is damaged (no full stop): it is made again",
        f"cache {tmp_path}/folder is damaged (no file `whole`): it is made again",
    ]


def test_a_value_that_is_not_worth_it_is_not_kept(tmp_path):
    texts = Texts(tmp_path, None)
    assert texts.get("name", lambda: "Hello.", worth=lambda: False) == "Hello."
    assert list(tmp_path.iterdir()) == []


def test_folders_count_with_all_that_is_in_them(tmp_path):
    for i in range(3):
        os.utime(Folders(tmp_path, None).place(f"folder{i}", fill), (i, i))
    whole = sum(file.stat().st_size for file in (tmp_path / "folder0", *(tmp_path / "folder0").rglob("*")))
    Texts(tmp_path, limit=5 * whole // 2).get("text", lambda: "Hello.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder1", "folder2", "text"]


def test_what_dead_processes_left_is_deleted_and_what_others_write_is_not(tmp_path):
    old = time.time() - STALE_SECONDS - 60
    for name, at in (("dead", old), ("alive", time.time())):
        fill(tmp_path / f"{TEMPORARY}{name}")
        for path in [*(tmp_path / f"{TEMPORARY}{name}").rglob("*"), tmp_path / f"{TEMPORARY}{name}"]:
            os.utime(path, (at, at))
    Texts(tmp_path, None).get("text", lambda: "Hello.")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{TEMPORARY}alive", "text"]


def test_a_disk_with_little_room_is_left_alone(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert Texts(tmp_path, None).get("name", lambda: "Hello.") == "Hello."
    assert list(tmp_path.iterdir()) == [] and "too much to keep" in caplog.text


def test_a_disk_that_fills_up_is_done_without(tmp_path, caplog):
    class Full(Texts):
        def save(self, value: str, path: Path) -> None:
            path.write_text(value[:2])
            raise OSError(28, "No space left on device")

    full = Full(tmp_path, None)
    for i in range(3):
        assert full.get(f"name{i}", lambda: "Hello.") == "Hello."
    assert list(tmp_path.iterdir()) == []
    assert len(caplog.records) == 1 and "No space left on device; continuing without it: free space" in caplog.text


def test_a_disk_that_cannot_be_written_still_gives_what_it_has(tmp_path, monkeypatch, caplog):
    texts, folders = Texts(tmp_path, None), Folders(tmp_path, None)
    texts.get("text", lambda: "Hello.")
    folders.place("folder", fill)

    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr("builtins.open", refuse)  # the lock's
    assert texts.get("text", never) == "Hello." and folders.place("folder", lambda path: never()).is_dir()
    monkeypatch.setattr(Path, "write_text", refuse)
    assert texts.get("other", lambda: "Hi.") == "Hi."
    with pytest.raises(OSError, match="Read-only"):
        folders.place("other", fill)
    assert not list(tmp_path.glob(f"{TEMPORARY}*")) and "continuing without it" in caplog.text


def test_threads_make_an_entry_once_each(tmp_path):
    made, start = [], threading.Barrier(8)

    def use(name: str) -> None:
        start.wait()
        assert Texts(tmp_path, None).get(name, lambda: made.append(name) or "Hello.") == "Hello."

    threads = [threading.Thread(target=use, args=(f"name{i % 2}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == ["name0", "name1"]
    assert not list(tmp_path.glob(f"{LOCK}*"))


def _append(folder: Path, made: Path) -> None:
    def make() -> str:
        with open(made, "a") as file:
            file.write("x")
        return "Hello."

    for i in range(50):
        Texts(folder, None).get(f"name{i}", make)


def test_processes_make_an_entry_once_each(tmp_path):
    """The lock's file is deleted by its holder while others wait for it, and they must not enter together then."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append, args=(tmp_path / "a", tmp_path / "made")) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len((tmp_path / "made").read_text()) == 50


def test_a_lock_dies_with_its_holder(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(60)
    holder.kill()
    holder.join()
    assert (tmp_path / f"{LOCK}name").exists()
    assert Texts(tmp_path, None).get("name", lambda: "Hello.") == "Hello."


def _hold(folder: Path, ready) -> None:
    def make() -> str:
        ready.set()
        threading.Event().wait()

    Texts(folder, None).get("name", make)
