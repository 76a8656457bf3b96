"""A real PostgreSQL for tests, which can be stopped and started, and an MLflow server on it.

    with Postgres() as database, MLflowServer(database.uri, tmp_path) as server:
        database.stop()
        database.start()

Needs `apt-get install --no-install-recommends postgresql` and psycopg (`pip install 'stillhouse[server]'`).
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from support.killing import kill_tree

from cluster.stack.ceph import free_port

USER = "postgres" if os.getuid() == 0 else None
"""PostgreSQL refuses to run as root; its package comes with a user of its own."""
SECONDS = 600.0
"""For a server to answer, on a busy machine."""


class Postgres:
    """A cluster of databases in a temporary folder, on a free port of loopback, open to whoever reaches it."""

    def __init__(self):
        programs = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/local/bin")]
        found = shutil.which("initdb") or next((p / "initdb" for p in programs if (p / "initdb").exists()), None)
        if found is None:
            pytest.skip("needs PostgreSQL: apt-get install postgresql")
        self.programs, self.port = Path(found).resolve().parent, free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="stillhouse-pg-"))
        if USER:
            shutil.chown(self.folder, USER)

    def __enter__(self) -> "Postgres":
        self._run("initdb", "-D", "data", "-A", "trust", "-U", "mlflow", "--no-sync")
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow", "mlflow")
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self.folder)

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg://mlflow@127.0.0.1:{self.port}/mlflow"

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder}"
        self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-t", str(int(SECONDS)), "-o", options, "start")

    def stop(self) -> None:
        """As if the machine had lost power: no connection is closed in order."""
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "-t", str(int(SECONDS)), "stop")

    def _run(self, program: str, *arguments: str) -> None:
        # Its server would hold a pipe open for ever, so that none is given.
        command, null = [self.programs / program, *arguments], subprocess.DEVNULL
        subprocess.run(command, cwd=self.folder, user=USER, stdin=null, stdout=null, stderr=null, check=True)


class MLflowServer:
    """An MLflow server over a database, which can be killed and started again."""

    def __init__(self, database: str, folder: Path):
        self.uri, self.folder = f"http://127.0.0.1:{free_port()}", folder
        self.command = [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"),
            *("--port", self.uri.rpartition(":")[2], "--backend-store-uri", database),
            *("--artifacts-destination", str(folder / "artifacts")),
        ]

    def __enter__(self) -> "MLflowServer":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> None:
        env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = (self.folder / "mlflow.log").open("a")
        self.process = subprocess.Popen(self.command, cwd=self.folder, env=env, stdout=log, stderr=log)
        deadline = time.monotonic() + SECONDS
        while not self.answers():
            assert self.process.poll() is None and time.monotonic() < deadline, (self.folder / "mlflow.log").read_text()
            time.sleep(0.2)

    def answers(self) -> bool:
        with contextlib.suppress(OSError):  # URLError is one
            return urllib.request.urlopen(f"{self.uri}/health", timeout=5).status == 200
        return False

    def stop(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            kill_tree(self.process.pid)
        self.process.wait()
