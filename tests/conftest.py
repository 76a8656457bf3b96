"""Fixtures that start what tests need from outside the process, once per session."""

import pytest
from support.ceph import server_or_skip


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A running Ceph gateway (support.ceph.S3Server); skipped where it is not installed."""
    with server_or_skip(tmp_path_factory.mktemp("ceph")) as server:
        yield server
