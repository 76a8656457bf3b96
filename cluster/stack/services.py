"""What a stack on one machine consists of: each service's command, its environment, and when it is ready.

All listen on 127.0.0.1 alone. Ray asks for a token, the S3 server for a key; both are in files that only this user can
read, whose paths the environment gives. MLflow's server is open to whoever can reach loopback on this machine, as
`stillhouse ui` is.
"""

import secrets
import socket
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from cluster.home import ui_environment
from cluster.stack.ceph import free_port

HOST = "127.0.0.1"
BUCKET = "stillhouse"
REGION = "us-east-1"
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray rewrites 127.0.0.1 to the machine's own address and then listens on all interfaces, metrics included. With this
it does as on macOS, on every system: it stays on loopback (seen in Ray 2.60; a test lists the sockets)."""


@dataclass(frozen=True)
class Service:
    """One process to start, and how to see that it is ready."""

    name: str
    command: list[str]
    url: str
    """Answers with HTTP 200 to 499 when the service is ready."""
    ports: tuple[int, ...] = ()
    """Further ports of 127.0.0.1 on which it listens by then."""
    files: tuple[Path, ...] = ()
    """Files that it has written by then."""
    env: dict[str, str] = field(default_factory=dict)
    """In its own environment."""
    exports: dict[str, str] = field(default_factory=dict)
    """In the environment of those that use it."""

    def ready(self) -> bool:
        """Whether it answers now."""
        try:
            urllib.request.urlopen(self.url, timeout=2).close()  # noqa: S310 - http, of this module
        except urllib.error.HTTPError as error:
            if error.code >= 500:
                return False
        except (urllib.error.URLError, OSError):
            return False
        return all(_listens(port) for port in self.ports) and all(file.exists() for file in self.files)


def _listens(port: int) -> bool:
    with socket.socket() as s:
        s.settimeout(2)
        return s.connect_ex((HOST, port)) == 0


def port_near(wanted: int) -> int:
    """The usual port of a service if it is free, else any free one."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((HOST, wanted))
        except OSError:
            return free_port()
    return wanted


def ray_head(folder: Path, scratch: Path) -> Service:
    """A Ray head with a dashboard, for `ray job submit`, and a token of its own. Its files are in `scratch`.

    Unix sockets are below it, and their paths have at most 107 characters: keep it short.
    """
    token = folder / "ray-token"
    write_secret(token, secrets.token_hex(32))
    port, dashboard, node = free_port(), port_near(8265), free_port()
    # fmt: off
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats",
        f"--node-ip-address={HOST}", f"--port={port}", f"--temp-dir={scratch}",
        f"--dashboard-host={HOST}", f"--dashboard-port={dashboard}", f"--node-manager-port={node}",
        *(f"--{name}={free_port()}" for name in (
            "object-manager-port", "ray-client-server-port", "metrics-export-port",
            "dashboard-agent-listen-port", "dashboard-agent-grpc-port",
        )),
    ]
    # fmt: on
    access = {**LOOPBACK, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    return Service(
        "ray",
        command,
        f"http://{HOST}:{dashboard}/api/version",
        (node, port),
        (),
        access | {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"},
        access | {"RAY_ADDRESS": f"{HOST}:{port}", "RAY_API_SERVER_ADDRESS": f"http://{HOST}:{dashboard}"},
    )


def mlflow_server(database: Path, artifacts: str) -> Service:
    """A tracking server and registry over a SQLite file, which passes artifacts on to a folder or a bucket."""
    port = port_near(5000)
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", HOST, "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", artifacts),
    ]
    url = f"http://{HOST}:{port}"
    names = ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION")
    quiet = {name: ui_environment()[name] for name in names}
    return Service("mlflow", command, f"{url}/health", env=quiet, exports={"MLFLOW_TRACKING_URI": url})


def s3_server(data: Path) -> Service:
    """An S3 server over a folder. Its first start there makes a key pair, in a file that the environment names."""
    port = port_near(9000)
    exports = {
        "STILLHOUSE_STORE": f"s3://{BUCKET}/stillhouse",
        "STILLHOUSE_S3_PATH_STYLE": "1",
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "AWS_SHARED_CREDENTIALS_FILE": str(data / "credentials"),
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
    command = [sys.executable, "-m", "cluster.stack.ceph", str(data), "--host", HOST, "--port", str(port)]
    return Service("s3", command, f"http://{HOST}:{port}", files=(data / "identity.json",), exports=exports)


def write_secret(path: Path, text: str) -> None:
    """A new file that only this user can read, from its first byte on."""
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text)
