"""A real S3 server for tests: the one of `stillhouse up`, on a free port of loopback.

Needs `apt-get install --no-install-recommends radosgw ceph-mon ceph-osd` (ceph-common comes along). By hand:

    with ceph_s3(tmp_path) as server:
        server.bucket("experts")
        subprocess.run([...], env=os.environ | server.env)
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from support.cli import ROOT
from support.killing import kill_tree

from cluster.stack.ceph import free_port, missing_programs


@dataclass(frozen=True)
class S3Server:
    """A running server and one user of it."""

    endpoint: str
    access_key: str = "testkey"
    secret_key: str = "testsecret123"
    region: str = "us-east-1"

    @property
    def env(self) -> dict[str, str]:
        """What the usual AWS chain must see to use it; the checksum settings are for pyarrow's and Ray's clients."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

    def client(self):
        """A plain boto3 client, to look at the server from outside the project's own code."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )

    def bucket(self, name: str) -> str:
        """Make a bucket; its name."""
        self.client().create_bucket(Bucket=name)
        return name


def server_or_skip(folder: Path) -> contextlib.AbstractContextManager[S3Server]:
    """`ceph_s3`, if it is installed."""
    require_programs()
    return ceph_s3(folder)


def require_programs() -> None:
    """Skip the test where Ceph is not installed; with STILLHOUSE_REQUIRE_S3=1 fail it."""
    if missing := missing_programs():
        message = f"no {', '.join(missing)}: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd"
        if os.environ.get("STILLHOUSE_REQUIRE_S3") == "1":
            pytest.fail(message)
        pytest.skip(message)


@contextlib.contextmanager
def ceph_s3(folder: Path) -> Iterator[S3Server]:
    """The product's own server (cluster/stack/ceph.py) below `folder`; its daemons also die with this process."""
    port = free_port()
    server = S3Server(f"http://127.0.0.1:{port}")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("w") as log:
        command = [sys.executable, "-m", "cluster.stack.ceph", str(folder / "s3"), "--port", str(port)]
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command], env=os.environ | server.env | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    try:
        if not process.stdout.readline():
            raise RuntimeError(f"the S3 server did not start:\n{(folder / 'server.log').read_text()[-2000:]}")
        yield server
    finally:
        kill_tree(process.pid)  # its objects are in a temporary folder: nothing to save
        process.wait()
        process.stdout.close()
