"""Decoded datasets on the local disk: found again, never taken for another, never trusted when damaged."""

import os
import time

import numpy as np
import pytest
import torch
from support.pictures import encoded, write

from distill import data
from distill.data import cache
from distill.recipe import Folder


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own, in which even the smallest and newest dataset is worth keeping."""
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache, "WORTH", 0)
    monkeypatch.setattr(cache, "SETTLED", -60.0)
    return tmp_path / "home"


@pytest.fixture
def settings(tmp_path):
    noise = np.random.default_rng(0)
    files = {f"{kind}/{i}.png": int(noise.integers(256)) for kind in "ab" for i in range(4)}
    return Folder(path=str(write(tmp_path / "data", files)), test_part=0.25)


@pytest.fixture
def decodes(monkeypatch):
    """Counts the readings that decode."""
    from distill.data import folder

    calls, real = [], folder.read
    monkeypatch.setattr(folder, "read", lambda *args: calls.append(1) or real(*args))
    return calls


def kept(home) -> list:
    return sorted((home / "cache" / "data").glob("*.safetensors"))


def test_the_second_reading_does_not_decode_and_is_the_same(settings, home, decodes):
    first, second = data.read(settings), data.read(settings)
    assert len(decodes) == 1 and len(kept(home)) == 1
    assert first.fingerprint == second.fingerprint and first.classes == second.classes
    assert torch.equal(first.train_x, second.train_x) and torch.equal(first.test_y, second.test_y)


@pytest.mark.parametrize("change", [{"size": 3}, {"limit": 4}, {"limit_test": 1}, {"test_part": 0.5}])
def test_other_settings_of_the_reader_are_another_entry(settings, decodes, change):
    data.read(settings)
    data.read(settings.model_copy(update=change))
    assert len(decodes) == 2


@pytest.mark.parametrize("change", [{"preprocess": "zca"}, {"validation": 0.3}])
def test_what_comes_after_reading_is_not(settings, decodes, change):
    data.read(settings)
    data.read(settings.model_copy(update=change))
    assert len(decodes) == 1


def test_a_file_replaced_under_its_old_size_and_time_is_seen(settings, tmp_path, decodes):
    file = tmp_path / "data" / "a" / "1.png"
    data.read(settings)
    before, old = file.stat(), file.read_bytes()
    other = next(e for v in range(256) if len(e := encoded(v)) == len(old) and e != old)
    file.write_bytes(other)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    data.read(settings)
    assert len(decodes) == 2


def test_added_and_removed_files_are_seen(settings, tmp_path, decodes):
    data.read(settings)
    write(tmp_path / "data", {"a/new.png": 9})
    assert len(data.read(settings).train_y) + 2 == 9
    (tmp_path / "data" / "a" / "new.png").unlink()
    data.read(settings)
    assert len(decodes) == 2  # the first is there still


@pytest.mark.parametrize("damage", ["a pixel", "cut", "empty", "junk", "other metadata"])
def test_a_damaged_file_is_made_again(settings, home, decodes, damage):
    good = data.read(settings)
    (file,) = kept(home)
    content = bytearray(file.read_bytes())
    content[-1] ^= damage == "a pixel"
    bad = {"cut": content[:-9], "empty": b"", "junk": b"x" * 500}.get(damage, content)
    file.write_bytes(
        bad.replace(b'\\"fingerprint\\": \\"', b'\\"fingerprint\\": \\"0') if damage == "other metadata" else bad
    )
    again = data.read(settings)
    assert len(decodes) == 2 and again.fingerprint == good.fingerprint
    data.read(settings)
    assert len(decodes) == 2  # and kept


def test_files_that_may_still_change_unseen_are_not_kept(settings, home, monkeypatch):
    monkeypatch.setattr(cache, "SETTLED", 3600.0)
    data.read(settings)
    assert kept(home) == []


def test_files_that_change_while_they_are_read_are_not_kept(settings, tmp_path, home):
    def make():
        write(tmp_path / "data", {"a/1.png": 77})
        return data.import_module("distill.data.folder").read(settings)

    sources = sorted((tmp_path / "data").rglob("*.png"))
    cache.cached(settings, sources, make)
    assert kept(home) == []


def test_small_datasets_are_not_kept(settings, home, monkeypatch):
    monkeypatch.setattr(cache, "WORTH", 8 << 20)
    data.read(settings)
    assert not home.exists()


def test_the_longest_unused_go_first(settings, home, monkeypatch):
    for limit in (4, 5):
        data.read(settings.model_copy(update={"limit": limit}))
        time.sleep(0.01)  # so that their times differ
    first, second = sorted(kept(home), key=lambda file: file.stat().st_mtime_ns)
    data.read(settings.model_copy(update={"limit": 4}))  # used again
    monkeypatch.setattr(cache, "LIMIT", sum(file.stat().st_size for file in kept(home)) + 100)
    data.read(settings)
    assert first in kept(home) and second not in kept(home) and len(kept(home)) == 2


def test_a_home_that_cannot_be_written_is_no_error(settings, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "file"))
    assert len(data.read(settings).train_y) == 6
    assert "continuing without it" in caplog.text
