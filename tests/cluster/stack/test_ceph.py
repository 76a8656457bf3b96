"""The S3 server of `stillhouse up` and of the image, on real Ceph: create-only, a key of its own, kept on restarts."""

import configparser
import subprocess
import sys
import time
from pathlib import Path

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from support.ceph import require_programs

from cluster.stack import ceph
from cluster.stack.services import Service, s3_server


@pytest.mark.s3
@pytest.mark.slow
def test_objects_and_key_are_there_after_a_restart_and_nothing_is_overwritten(tmp_path, monkeypatch):
    require_programs()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    for start in range(2):
        service = s3_server(tmp_path / "s3")
        with running(service, tmp_path):
            client = client_of(service)
            if start == 0:
                client.create_bucket(Bucket="bucket")
                client.put_object(Bucket="bucket", Key="k", Body=b"first", IfNoneMatch="*")
            with pytest.raises(ClientError, match="PreconditionFailed"):
                client.put_object(Bucket="bucket", Key="k", Body=b"second", IfNoneMatch="*")
            assert client.get_object(Bucket="bucket", Key="k")["Body"].read() == b"first"
    assert (tmp_path / "s3" / "credentials").stat().st_mode & 0o777 == 0o600


class running:
    """The server's process, once it is ready; on leaving it is stopped, and all of its daemons with it."""

    def __init__(self, service: Service, folder: Path):
        self.service, self.log = service, folder / "log"

    def __enter__(self) -> None:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self.service.command, stdout=log, stderr=log)
        while not self.service.ready():
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.2)
        self.daemons = psutil.Process(self.process.pid).children()
        assert {p.name() for p in self.daemons} == {"ceph-mon", "ceph-osd", "radosgw"}
        listening = [s.laddr.ip for p in self.daemons for s in p.net_connections("inet") if s.status == "LISTEN"]
        assert set(listening) == {"127.0.0.1"}

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait(90)
        assert not any(p.is_running() for p in self.daemons)


def client_of(service: Service):
    keys = configparser.ConfigParser()
    keys.read(service.exports["AWS_SHARED_CREDENTIALS_FILE"])
    where = {"endpoint_url": service.exports["AWS_ENDPOINT_URL"], "region_name": service.exports["AWS_DEFAULT_REGION"]}
    config = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    return boto3.client("s3", config=config, **where, **keys["default"])


def test_what_is_missing_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["ceph.py", str(tmp_path / "s3")])
    with pytest.raises(SystemExit, match="radosgw.*apt-get install"):
        ceph.main()
    assert not (tmp_path / "s3").exists()
