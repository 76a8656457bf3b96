"""A run on an S3 store that is full, then slow: it ends in one line, loses nothing, and resumes to the same bytes."""

from pathlib import Path

import pytest
from support.cli import TINY, finish, start
from support.proxy import faulty_proxy

from cluster.results.runs import Run, run_ids
from cluster.store import open_store
from cluster.store.base import Store

pytestmark = [pytest.mark.ray, pytest.mark.s3]
DISTILL = ("distill", "digits", *TINY)


def only_run(store: Store) -> Run:
    (run_id,) = run_ids(store)
    return Run(store, run_id)


def quiet(home: Path) -> str:
    finish(start(home, *DISTILL), home)
    return only_run(open_store(f"file:{home}/store")).result()["sha256"]


def test_a_full_store_ends_a_run_in_one_line_and_a_slow_one_does_not(s3_server, s3_url, tmp_path):
    home, store, full = tmp_path / "home", open_store(s3_url), []
    with faulty_proxy(s3_server.endpoint) as (proxy, endpoint):
        command = (*DISTILL, "--store", s3_url)
        env = {**s3_server.env, "AWS_ENDPOINT_URL": endpoint}

        def fills_up(number: int, method: str, path: str) -> str | None:
            """Nothing can be written from the checkpoint after step 6 on."""
            full.extend([path] if method == "PUT" and "00000006" in path else [])
            return "full" if method == "PUT" and full else None

        proxy.plan = fills_up
        assert start(home, *command, **env).wait() == 2
        said = (home / "output.log").read_text()
        assert "the store is full (QuotaExceeded)" in said and "checkpoints/00000006" in said
        assert "run the same command again" in " ".join(said.split()) and "Traceback" not in said
        assert only_run(store).latest().step == 4 and only_run(store).result() is None

        proxy.plan = lambda number, method, path: "slow" if number % 10 == 0 else None
        said = finish(start(home, *command, **env), home)
        assert "resumed after step 4" in said
    assert only_run(store).result()["sha256"] == quiet(tmp_path / "quiet")
