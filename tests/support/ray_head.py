"""A real Ray head node with a dashboard (for `ray job submit`), on loopback, started and stopped by the tests."""

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

ADDRESS = "127.0.0.2"
"""Ray rewrites 127.0.0.1 to the machine's own address; this one stays on loopback."""
SECOND = "127.0.0.3"
RAY = str(Path(sys.executable).with_name("ray"))


def free_port() -> int:
    with socket.socket() as s:
        s.bind((ADDRESS, 0))
        return s.getsockname()[1]


@contextmanager
def head(folder: Path) -> Iterator[dict[str, str]]:
    """Environment in which `ray job submit` reaches the head; it is gone when the block ends."""
    port, dashboard = free_port(), free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "STILLHOUSE_", "MLFLOW_"))}
    env = {**kept, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    env |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    command = [
        RAY, "start", "--head", "--block", f"--node-ip-address={ADDRESS}", f"--port={port}",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--num-cpus=2", "--disable-usage-stats",
        f"--dashboard-agent-listen-port={free_port()}", f"--dashboard-agent-grpc-port={free_port()}",
        f"--metrics-export-port={free_port()}",
    ]  # fmt: skip
    with (folder / "ray.log").open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{dashboard}"
        _until_answering(process, url, env["RAY_AUTH_TOKEN"], folder / "ray.log")
        yield env | {"RAY_ADDRESS": url, "HEAD": f"{ADDRESS}:{port}"}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextmanager
def second_node(env: dict[str, str], folder: Path) -> Iterator[subprocess.Popen]:
    """A second node of the cluster whose head() gave `env`, with 2 CPUs; the test may kill its process tree."""
    command = [
        RAY, "start", f"--address={env['HEAD']}", "--block", f"--node-ip-address={SECOND}", "--num-cpus=2",
        "--disable-usage-stats",
    ]  # fmt: skip
    kept = {name: value for name, value in env.items() if name != "RAY_ADDRESS"}
    with (folder / "second.log").open("w") as log:
        process = subprocess.Popen(command, env=kept, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _until_answering(process: subprocess.Popen, url: str, token: str, log: Path) -> None:
    request = Request(f"{url}/api/version", headers={"Authorization": f"Bearer {token}"})
    while process.poll() is None:
        try:
            urlopen(request, timeout=5).close()
            return
        except (URLError, ConnectionError, TimeoutError):
            continue
    raise RuntimeError(f"ray start ended: {log.read_text()}")
