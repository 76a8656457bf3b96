"""A real S3 server for tests: one-node Ceph (monitor, memory-backed disk, RADOS gateway) on free loopback ports.

Needs `apt-get install --no-install-recommends radosgw ceph-mon ceph-osd` (ceph-common comes along). By hand:

    with ceph_s3(tmp_path) as server:
        server.bucket("experts")
        subprocess.run([...], env=os.environ | server.env)
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "monmaptool", "setpriv")
START_SECONDS = 120
_CONF = """
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon_port}/0]
public_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
ms_bind_ipv6 = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
memstore_device_bytes = 4294967296
mon_allow_pool_size_one = true
mon_data_avail_warn = 2
mon_data_avail_crit = 1
mon_data = {folder}/mon
osd_data = {folder}/osd
rgw_data = {folder}/rgw
run_dir = {folder}/run
admin_socket = {folder}/run/$name.asok
pid_file = {folder}/run/$name.pid
log_file = {folder}/log/$name.log
mon_cluster_log_file = {folder}/log/cluster.log
rgw_frontends = beast endpoint=127.0.0.1:{s3_port} tcp_nodelay=1
rgw_enable_usage_log = false
rgw_dns_name = localhost
"""


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


def missing_programs() -> list[str]:
    """What is not installed of what a server needs."""
    return [p for p in PROGRAMS if not shutil.which(p)]


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
    """Start the daemons below `folder`, yield the server, stop them. They also die with their starter."""
    mon_port, s3_port = _free_port(), _free_port()
    for name in ("mon", "osd", "run", "log", "rgw"):
        (folder / name).mkdir(parents=True)
    conf, fsid, osd = folder / "ceph.conf", str(uuid.uuid4()), str(uuid.uuid4())
    conf.write_text(_CONF.format(fsid=fsid, mon_port=mon_port, s3_port=s3_port, folder=folder))
    monmap = folder / "monmap"
    with contextlib.ExitStack() as daemons:
        _tool("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}/0]", monmap)
        _tool("ceph-mon", "-c", conf, "-i", "a", "--mkfs", "--monmap", monmap)
        daemons.enter_context(_daemon(folder, "ceph-mon", "-c", conf, "-i", "a"))
        _tool("ceph", "-c", conf, "osd", "new", osd)
        _tool("ceph-osd", "-c", conf, "-i", "0", "--mkfs", "--osd-uuid", osd)
        daemons.enter_context(_daemon(folder, "ceph-osd", "-c", conf, "-i", "0"))
        gateway = daemons.enter_context(_daemon(folder, "radosgw", "-c", conf, "-n", "client.rgw"))
        server = S3Server(f"http://127.0.0.1:{s3_port}")
        _wait(server.endpoint, gateway, folder)
        keys = f"--access-key={server.access_key}", f"--secret={server.secret_key}"
        _tool("radosgw-admin", "-c", conf, "user", "create", "--uid=test", "--display-name=test", *keys)
        yield server


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _tool(*command: str | Path) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=START_SECONDS, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} exited with {done.returncode}:\n{done.stdout}")


@contextlib.contextmanager
def _daemon(folder: Path, program: str, *arguments: str | Path) -> Iterator[subprocess.Popen]:
    with open(folder / f"{program}.out", "wb") as out:
        command = ["setpriv", "--pdeathsig", "KILL", program, "-f", *arguments]
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()  # its data is in memory and a temporary folder: nothing to save
        process.wait()


def _wait(endpoint: str, gateway: subprocess.Popen, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if gateway.poll() is not None:
            break
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise RuntimeError(f"radosgw did not answer on {endpoint}:\n{(folder / 'radosgw.out').read_text()[-2000:]}")
