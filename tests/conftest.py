"""Fixtures that start what tests need from outside the process, once per session, and the stores on it."""

import uuid

import pytest
from support.ceph import server_or_skip

from cluster.store import open_store


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A running Ceph gateway (support.ceph.S3Server); skipped where it is not installed."""
    with server_or_skip(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_bucket(s3_server):
    return s3_server.bucket("stillhouse")


@pytest.fixture
def s3_url(s3_server, s3_bucket, monkeypatch):
    """Url of a fresh, empty store on the real server, found through the environment as users do it."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_bucket}/{uuid.uuid4().hex}"


@pytest.fixture(params=["file", "s3"])
def store(request, tmp_path):
    """An empty store of each kind: tests that take it run over both."""
    if request.param == "file":
        return open_store(f"file:{tmp_path}/store")
    return open_store(request.getfixturevalue("s3_url"))
