"""A single-node Ceph gateway: an S3 server with create-only puts, whose objects stay in a folder from start to start.

    python -m cluster.stack.ceph FOLDER --port 9000

Needs `apt-get install --no-install-recommends radosgw ceph-mon ceph-osd`. Runs until SIGTERM. The key pair is the one
in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY); without one, Ceph makes it on the first start. It is in
FOLDER/credentials, in the format of ~/.aws/credentials. One disk, one copy, no authentication between the daemons: for
one machine and one user, on loopback or inside a container. Imports the standard library only: the image has no more.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "monmaptool")
START_SECONDS = 120
DISK_BYTES = 50 << 30  # of a sparse file: it takes what is written
CONF = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon_port}/0]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
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
osd_objectstore = bluestore
osd_memory_target = 939524096
bluestore_block_size = {disk}
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
rgw_frontends = beast endpoint={host}:{port} tcp_nodelay=1
rgw_enable_usage_log = false
rgw_dns_name = localhost
"""


def missing_programs() -> list[str]:
    """What is not installed of what a server needs."""
    return [program for program in PROGRAMS if not shutil.which(program)]


class Ceph:
    """A monitor, one disk in a file and the gateway, as children of this process."""

    def __init__(self, folder: Path, host: str, port: int):
        self.folder, self.host, self.port = folder, host, port
        self.conf, self.identity = folder / "ceph.conf", folder / "identity.json"
        self.daemons: list[subprocess.Popen] = []

    def start(self) -> None:
        """Start the daemons, on the first call in a folder after making their disks; return once S3 answers."""
        new = not self.identity.exists()
        if new:
            shutil.rmtree(self.folder / "mon", ignore_errors=True)  # of a first start that was interrupted
            shutil.rmtree(self.folder / "osd", ignore_errors=True)
        for name in ("mon", "osd", "run", "log", "rgw"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # The monitor keeps its address in its own data: it must be the same at every start.
        known = {"fsid": str(uuid.uuid4()), "mon_port": free_port(), "osd": str(uuid.uuid4())}
        known = known if new else json.loads(self.identity.read_text())
        self.conf.write_text(CONF.format(folder=self.folder, host=self.host, port=self.port, disk=DISK_BYTES, **known))
        if new:
            address = f"[v2:127.0.0.1:{known['mon_port']}/0]"
            monmap = self.folder / "monmap"
            monmap.unlink(missing_ok=True)
            self.tool("monmaptool", "--create", "--fsid", known["fsid"], "--addv", "a", address, monmap)
            self.tool("ceph-mon", "-c", self.conf, "-i", "a", "--mkfs", "--monmap", monmap)
        self.daemon("ceph-mon", "-i", "a")
        if new:
            self.tool("ceph", "-c", self.conf, "osd", "new", known["osd"])
            self.tool("ceph-osd", "-c", self.conf, "-i", "0", "--mkfs", "--osd-uuid", known["osd"])
        self.daemon("ceph-osd", "-i", "0")
        self.daemon("radosgw", "-n", "client.rgw")
        self.wait()
        if new:
            self.make_user()
            self.identity.write_text(json.dumps(known))  # last: now the folder is whole

    def make_user(self) -> None:
        """The one user; its key pair goes to a file that only this user can read."""
        given = [os.environ.get(name, "") for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
        keys = ("--access-key", given[0], "--secret", given[1]) if all(given) else ()  # else Ceph makes a pair
        arguments = ("-c", self.conf, "user", "create", "--uid=stillhouse", "--display-name=stillhouse", *keys)
        made = json.loads(self.tool("radosgw-admin", *arguments))["keys"][0]
        with open(self.folder / "credentials", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(
                f"[default]\naws_access_key_id = {made['access_key']}\naws_secret_access_key = {made['secret_key']}\n"
            )

    def daemon(self, program: str, *arguments: str) -> None:
        with open(self.folder / "log" / f"{program}.out", "a") as log:
            command = [program, "-c", str(self.conf), *arguments, "-f"]
            self.daemons.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    def tool(self, *command: object) -> str:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=START_SECONDS)
        if done.returncode:
            raise SystemExit(f"{command[0]} failed: {done.stderr[-2000:]}")
        return done.stdout

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise SystemExit(f"no answer on port {self.port} after {START_SECONDS} s; logs are in {self.folder / 'log'}")

    def check(self) -> None:
        """SystemExit if a daemon has ended."""
        for daemon in self.daemons:
            if daemon.poll() is not None:
                raise SystemExit(f"{daemon.args[0]} ended with {daemon.returncode}; logs are in {self.folder / 'log'}")

    def stop(self) -> None:
        """The gateway first: it waits for the others otherwise."""
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    o = parser.parse_args()
    if missing := missing_programs():
        raise SystemExit(f"no {', '.join(missing)}: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server = Ceph(o.folder.absolute(), o.host, o.port)
    try:
        server.start()
        print(f"S3 on port {o.port}", flush=True)
        while True:
            server.check()
            time.sleep(1)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
