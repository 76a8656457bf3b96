"""An empty store of each kind; tests that take `store` run over both."""

import uuid

import pytest

from cluster.store import open_store


@pytest.fixture(scope="session")
def s3_bucket(s3_server):
    return s3_server.bucket("stillhouse")


@pytest.fixture
def s3_url(s3_server, s3_bucket, monkeypatch):
    """A fresh prefix on the real server, found through the environment as users do it."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_bucket}/{uuid.uuid4().hex}"


@pytest.fixture(params=["file", "s3"])
def store(request, tmp_path):
    if request.param == "file":
        return open_store(f"file:{tmp_path}/store")
    return open_store(request.getfixturevalue("s3_url") + "?multipart_mib=5")
