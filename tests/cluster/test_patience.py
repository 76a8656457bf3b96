"""A store or a tracking server that is away is waited for, if it was there before; and the user is told."""

import errno

import pytest
from mlflow.exceptions import MlflowException

from cluster import patience
from cluster.patience import is_disk_full, patiently
from cluster.store import open_store
from cluster.tracking import run as tracking
from cluster.tracking.client import PatientClient, explained, is_away
from cluster.tracking.run import Tracker
from distill.errors import AwayError, StoreError


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """No waiting; what would have been waited. For ten minutes, as users have it."""
    monkeypatch.setenv("STILLHOUSE_PATIENCE", "600")
    monkeypatch.setattr(patience, "_met", set())
    found = []
    monkeypatch.setattr(patience.time, "sleep", found.append)
    return found


def failing(times: int, error: Exception):
    """A call that raises so many times, then returns how often it was called."""
    calls = []

    def call(*_, **__) -> int:
        calls.append(None)
        if len(calls) <= times:
            raise error
        return len(calls)

    return call


def away(error: Exception) -> bool:
    return isinstance(error, AwayError)


def test_what_was_there_is_waited_for_and_the_user_hears_of_it(pauses, caplog):
    patiently(lambda: None, away, "store s3://b")
    assert patiently(failing(6, AwayError("refused\nsecond line")), away, "store s3://b") == 7
    assert len(pauses) == 6 and pauses[0] < pauses[2] < pauses[4] and max(pauses) <= patience.LONGEST_PAUSE
    assert "waiting for store s3://b (0 of up to 600 s): refused" in caplog.text
    assert "answers again after" in caplog.text and "second line" not in caplog.text


def test_it_is_given_up_after_the_time_that_was_set(pauses):
    patience.expect("store s3://b")
    with pytest.raises(AwayError):
        patiently(failing(10**6, AwayError("refused")), away, "store s3://b")
    assert sum(pauses) == pytest.approx(600)


@pytest.mark.parametrize("known, error", [(False, AwayError("refused")), (True, StoreError("no permission"))])
def test_a_wrong_address_and_other_errors_are_raised_at_once(pauses, known, error):
    if known:
        patience.expect("store s3://b")
    with pytest.raises(type(error)):
        patiently(failing(1, error), away, "store s3://b")
    assert pauses == []


@pytest.mark.parametrize("call", ["create", "read", "size", "list", "delete", "check_writable"])
def test_every_request_to_a_store_waits(pauses, tmp_path, monkeypatch, call):
    store = open_store(f"file:{tmp_path}/store")
    store.create("a/b", b"1")
    inner = f"_{call}"
    whole = getattr(store, inner)
    first = failing(2, AwayError("refused"))

    def flaky(*arguments):
        first()
        return whole(*arguments)

    monkeypatch.setattr(store, inner, flaky)
    arguments = {"create": ("a/c", b"2"), "read": ("a/b",), "size": ("a/b",), "list": ("a",), "delete": ("a", False)}
    getattr(store, call)(*arguments.get(call, ()))
    assert len(pauses) == 2


# ---------------------------------------------------------------- MLflow

GONE = MlflowException("API request to http://mlflow:5000/api failed with exception refused")


@pytest.fixture
def tracker(tmp_path) -> Tracker:
    return Tracker.open(f"sqlite:///{tmp_path}/mlflow.db", "tiny", "run", "key", {"a": 1}, {})


def history(tracker: Tracker) -> list[int]:
    return [metric.step for metric in tracker.client.get_metric_history(tracker.run_id, "loss")]


def test_a_run_goes_on_while_the_tracking_server_is_away_and_catches_up(tracker, pauses, monkeypatch, caplog):
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(tracking, "AWAY_SECONDS", 0.0)
    whole, calls = tracker.client.at_once.log_batch, []

    def log_batch(*arguments, **named):
        calls.append(None)
        if len(calls) <= 3:
            raise GONE
        return whole(*arguments, **named)

    monkeypatch.setattr(tracker.client.at_once, "log_batch", log_batch)
    for step in range(1, 6):
        tracker.log(step, {"loss": 1.0})
    assert history(tracker) == [1, 2, 3, 4, 5] and pauses == []
    assert caplog.text.count("going on until the next checkpoint without it") == 1


def test_a_checkpoint_waits_for_the_tracking_server(tracker, pauses, monkeypatch, caplog):
    """A resumed run does not log the steps before its checkpoint again."""
    patience.expect(f"tracking store {tracker.uri}")
    whole, first = tracker.client.at_once.log_batch, failing(3, GONE)

    def log_batch(*arguments, **named):
        first()
        return whole(*arguments, **named)

    tracker.log(1, {"loss": 1.0})
    monkeypatch.setattr(tracker.client.at_once, "log_batch", log_batch)
    tracker.flush()
    assert history(tracker) == [1] and len(pauses) == 3
    assert "waiting for tracking store" in caplog.text


def test_a_tracking_server_that_stays_away_is_one_line(tracker, monkeypatch):
    monkeypatch.setattr(tracker.client.at_once, "log_batch", failing(9, GONE))
    tracker.log(1, {"loss": 1.0})
    with pytest.raises(StoreError, match="failed with exception refused; fix it or set MLFLOW_TRACKING_URI") as raised:
        tracker.flush()
    assert "\n" not in str(raised.value)
    tracker.fail()  # after another error, which counts


def test_what_does_not_go_away_is_not_waited_for():
    assert is_away(GONE) and is_away(ConnectionRefusedError())
    assert is_away(MlflowException("(psycopg2.OperationalError) could not connect to server"))
    assert not is_away(MlflowException("no such run")) and not is_away(ValueError())
    assert not is_away(MlflowException("(sqlite3.OperationalError) database or disk is full"))
    assert PatientClient(None, "x").at_once is None


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        MlflowException("(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT INTO metrics ...]\n" * 20),
    ],
)
def test_a_full_disk_is_one_line_with_the_folder(tmp_path, error):
    with pytest.raises(StoreError, match=f"no space left in {tmp_path}/home; free some") as raised:
        with explained(f"sqlite:///{tmp_path}/home/mlflow.db"):
            raise error
    assert "\n" not in str(raised.value) and "SQL" not in str(raised.value)


def test_a_full_disk_is_seen_through_what_was_raised_because_of_it():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise ValueError("cannot write") from None
    except ValueError as error:
        assert is_disk_full(error)
    assert not is_disk_full(ValueError("no"))
