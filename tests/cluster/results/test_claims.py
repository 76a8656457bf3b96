"""One command at a time works on something: the second waits and says for whom; what the dead left is free."""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import pytest

from cluster.results import claims
from cluster.results.claims import Claim, claimed
from cluster.store import open_store

RUN = "runs/digits-0123456789abcdef-160"
ELSEWHERE = Claim("ff", "another-machine", 1, "then")


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "LOOK", 0.01)
    return open_store(f"file:{tmp_path}/store")


def left_by(store, holder: Claim, number: int = 7) -> None:
    store.create(f"claims/{RUN}/{number:08d}.json", json.dumps(asdict(holder)).encode())


def nobody_works(store) -> bool:
    """Whether one object is left, which says so."""
    (entry,) = store.list("claims/")
    return Claim(**json.loads(store.read(entry.key))) == claims.FREE


def taking(store, took: list) -> threading.Thread:
    def take() -> None:
        with claimed(store, RUN):
            took.append(time.monotonic())

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    return thread


def test_a_second_command_waits_and_names_the_first(store, caplog):
    took = []
    with claimed(store, RUN), caplog.at_level(logging.WARNING, "stillhouse"):
        second = taking(store, took)
        second.join(0.5)
        assert second.is_alive() and not took
        released = time.monotonic()
    second.join(30)
    assert took and took[0] >= released
    said = [r.getMessage() for r in caplog.records]
    assert said == [f"process {os.getpid()} on {socket.gethostname()} works on {RUN}: waiting until it has ended"]
    assert nobody_works(store)


def test_of_many_one_works_at_a_time(store):
    inside, most, done = [], [], []

    def work(i: int) -> None:
        with claimed(store, RUN):
            inside.append(i)
            most.append(len(inside))
            time.sleep(0.02)
            inside.remove(i)
        done.append(i)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == [0, 1, 2, 3, 4] and set(most) == {1}


def test_whoever_took_a_number_that_was_used_before_withdraws(store):
    """It looked when the number before was there, and acted after others had come and gone."""
    left_by(store, ELSEWHERE, 9)
    assert not claims._replaced(store, f"claims/{RUN}", 6, Claim("aa", "late", 1, "then"))
    assert [entry.key[-13:] for entry in store.list("claims/")] == ["00000009.json"]
    assert claims._replaced(store, f"claims/{RUN}", 9, ELSEWHERE)
    assert [entry.key[-13:] for entry in store.list("claims/")] == ["00000010.json"]


def test_other_runs_are_not_waited_for(store):
    with claimed(store, RUN), claimed(store, RUN + "0"):
        assert len(store.list("claims/")) == 2


def test_an_error_in_the_block_gives_the_claim_back(store):
    with pytest.raises(ZeroDivisionError), claimed(store, RUN):
        raise ZeroDivisionError
    assert nobody_works(store)


def test_the_claim_of_a_process_that_was_killed_is_free(store, caplog):
    code = "import os, sys; from cluster.results.claims import claimed; from cluster.store import open_store\n"
    code += f"with claimed(open_store(sys.argv[1]), {RUN!r}): os._exit(9)"
    killed = subprocess.run([sys.executable, "-c", code, store.url], timeout=120)
    assert killed.returncode == 9 and len(store.list("claims/")) == 1
    with claimed(store, RUN):
        assert [entry.key[-13:] for entry in store.list("claims/")] == ["00000002.json"]
    assert not caplog.records


class Clock:
    """Time that passes only while somebody sleeps; `at` are things that happen at a second."""

    def __init__(self, at: dict):
        self.now, self.at = 0.0, at

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for second in [s for s in self.at if s <= self.now]:
            self.at.pop(second)()


def test_a_claim_of_another_machine_is_waited_for_until_nobody_renews_it(store, monkeypatch):
    left_by(store, ELSEWHERE)
    clock = Clock({40: lambda: left_by(store, ELSEWHERE, 8)})  # renewed: the time begins again
    monkeypatch.setattr(claims, "time", clock)
    monkeypatch.setattr(claims, "LOOK", 1.0)
    with claimed(store, RUN):
        assert 40 + claims.SILENT < clock.now <= 40 + claims.SILENT + 3


def test_whoever_works_renews_its_claim(store, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.02)
    with claimed(store, RUN):
        deadline = time.monotonic() + 60
        while store.list("claims/")[-1].key < f"claims/{RUN}/00000004.json" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert store.list("claims/")[-1].key >= f"claims/{RUN}/00000004.json"
        assert len(store.list("claims/")) <= 2
    assert nobody_works(store)


def test_a_holder_that_lost_its_claim_says_so_and_leaves_the_other_s(store, monkeypatch, caplog):
    monkeypatch.setattr(claims, "BEAT", 0.05)
    with caplog.at_level(logging.WARNING, "stillhouse"), claimed(store, RUN):
        key = store.list("claims/")[-1].key
        for number in range(int(key[-13:-5]) + 1, 60):  # whatever number it renews with is taken
            try:
                left_by(store, ELSEWHERE, number)
            except claims.ConflictError:
                continue
        for _ in range(200):
            if caplog.records:
                break
            time.sleep(0.05)
    assert "another one took over" in caplog.records[0].getMessage()
    assert json.loads(store.read(store.list("claims/")[-1].key)) == asdict(ELSEWHERE)
