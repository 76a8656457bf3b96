"""`stillhouse up` and `stillhouse down`: a Ray head, an MLflow server and an S3 server on this machine, and their end.

    environment = up(home(), s3=True, say=print)      # what `stillhouse distill` and `ray job submit` need to see
    down(home(), say=print)

Results stay where they are without a stack: the tracking database, its artifacts and the store are in the home folder
(a Ceph server's objects in its folder `s3`). All else is in the folder `stack`, made whole by one rename before
anything starts and removed when nothing of the stack runs any more; Ray's sockets need a shorter path, noted there. So
`down` knows at every moment what `up` may have started, also if `up` was killed, and two of them cannot work at once.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from cluster.home import artifact_root
from cluster.stack import processes, services
from cluster.stack.ceph import missing_programs
from cluster.stack.services import Service
from distill.errors import StoreError

Say = Callable[[str], None]
START_SECONDS = 180.0
FOREIGN = ("RAY_", "MLFLOW_", "STILLHOUSE_STORE")
"""Variables of another cluster, which the services of this one must not see."""


class StackError(StoreError):
    """A stack that does not start, or another that is in the way."""


@dataclass
class Note:
    """What is written down before anything starts."""

    mark: str
    scratch: str
    """Folder of Ray's sockets and logs."""
    pid: int
    born: str
    """The process of `up`: its number and processes.birth()."""


class Stack:
    """The folder of a stack, running or not."""

    def __init__(self, home: Path):
        self.home, self.folder = home, home / "stack"
        self.note_file, self.environment_file = self.folder / "note.json", self.folder / "environment.json"

    def note(self) -> Note | None:
        """What `up` wrote down; None if there is no stack."""
        try:
            return Note(**json.loads(self.note_file.read_text()))
        except FileNotFoundError:
            return None

    def environment(self) -> dict[str, str] | None:
        """What a finished `up` exported; None before that."""
        try:
            return json.loads(self.environment_file.read_text())
        except FileNotFoundError:
            return None

    def claim(self) -> Note | None:
        """Make the folder, with its note; None if there is one already."""
        self.home.mkdir(parents=True, exist_ok=True)
        mark = secrets.token_hex(8)
        made = Path(tempfile.mkdtemp(prefix=".stack-", dir=self.home))  # mode 0700
        scratch = str(Path(tempfile.gettempdir(), f"stillhouse-{mark}"))
        note = Note(mark, scratch, os.getpid(), processes.birth(os.getpid()))
        (made / "note.json").write_text(json.dumps(asdict(note)))
        try:
            made.rename(self.folder)  # fails if another was first: a folder with files in it is not replaced
        except OSError:
            shutil.rmtree(made)
            return None
        Path(note.scratch).mkdir(mode=0o700)
        return note

    def remove(self) -> None:
        """Remove the folder, by one rename, and what a claim or an end that was killed left beside it."""
        if self.folder.exists():
            self.folder.rename(self.home / f".stack-{secrets.token_hex(8)}")
        for rest in self.home.glob(".stack-*"):
            shutil.rmtree(rest)


def up(home: Path, s3: bool | None, say: Say) -> dict[str, str]:
    """Start the stack of a home folder and return the environment of its users; if it runs already, only that.

    `s3`: True for a Ceph server, False for a folder as store, None for Ceph if its programs are installed. Raises
    StackError if a service does not start, after stopping the others, and if another `up` is under way or left a ruin.
    """
    stack = Stack(home)
    if s3 and missing_programs():
        raise StackError(
            f"an S3 server needs {', '.join(missing_programs())}: "
            "apt-get install --no-install-recommends radosgw ceph-mon ceph-osd, or leave --s3 out"
        )
    note = stack.claim()
    if note is None:
        return _running(stack, say)
    try:
        chosen = _services(stack, note, not missing_programs() if s3 is None else s3)
        environment = _start(stack, note, chosen, say)
        stack.environment_file.write_text(json.dumps(environment))
        return environment
    except BaseException:
        say("stopping what was started")
        down(home, say)
        raise


def _running(stack: Stack, say: Say) -> dict[str, str]:
    """The environment of a stack that is there already."""
    note, environment = stack.note(), stack.environment()
    if environment and processes.find(note.mark, [stack.folder]):
        say("the stack is up already")
        return environment
    if note and not environment and processes.alive(note.pid, note.born):
        raise StackError(f"process {note.pid} is starting this stack: wait for it, or stop it with `stillhouse down`")
    raise StackError(f"what is in {stack.folder} does not run any more: remove it with `stillhouse down`")


def _services(stack: Stack, note: Note, s3: bool) -> list[Service]:
    """What to start; each sees what the ones before it export."""
    store = [services.s3_server(stack.home / "s3")] if s3 else []
    database = stack.home / "mlflow.db"
    artifacts = f"s3://{services.BUCKET}/artifacts" if s3 else artifact_root(f"sqlite:///{database}")
    return [*store, services.mlflow_server(database, artifacts), services.ray_head(stack.folder, Path(note.scratch))]


def _start(stack: Stack, note: Note, chosen: list[Service], say: Say) -> dict[str, str]:
    """Start all at once, then wait until each is ready."""
    exported = {"STILLHOUSE_HOME": str(stack.home)}
    if chosen[0].name != "s3":
        exported["STILLHOUSE_STORE"] = f"file:{stack.home}/store"
    base = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    # For the commands of `ray job submit`: this installation's, also if its environment is not activated.
    base["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{base.get('PATH', os.defpath)}"
    running: dict[str, subprocess.Popen] = {}
    for service in chosen:
        exported |= service.exports
        log = stack.folder / f"{service.name}.log"
        running[service.name] = processes.start(service.command, base | exported | service.env, note.mark, log)
    begun, waiting = time.monotonic(), {service.name: service for service in chosen}
    while waiting:
        for name, service in list(waiting.items()):
            if running[name].poll() is not None:
                raise StackError(f"{name} ended with {running[name].returncode}:\n{_end(stack, name)}")
            if service.ready():
                say(f"{name} is ready after {time.monotonic() - begun:.0f} s")
                del waiting[name]
        if waiting and time.monotonic() - begun > START_SECONDS:
            raise StackError(f"not ready after {START_SECONDS:.0f} s: {', '.join(waiting)}\n{_end(stack, *waiting)}")
        time.sleep(0.1)
    if chosen[0].name == "s3":
        _make_bucket(exported)
    return exported


def _end(stack: Stack, *names: str) -> str:
    """The last lines of logs, which go with the stack."""
    logs = ((stack.folder / f"{name}.log").read_text(errors="replace") for name in names)
    return "\n".join("\n".join(log.splitlines()[-15:]) for log in logs)


def _make_bucket(environment: dict[str, str]) -> None:
    """Create the bucket, unless it is there from the last time."""
    import boto3
    from botocore.config import Config

    keys = Path(environment["AWS_SHARED_CREDENTIALS_FILE"]).read_text().splitlines()
    given = dict(line.split(" = ") for line in keys if " = " in line)
    config = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    where = {"endpoint_url": environment["AWS_ENDPOINT_URL"], "region_name": services.REGION}
    boto3.client("s3", config=config, **where, **given).create_bucket(Bucket=services.BUCKET)


def down(home: Path, say: Say) -> bool:
    """Stop the stack of a home folder and remove its files; False if there is none. Results stay."""
    stack = Stack(home)
    note = stack.note()
    if note is None:
        stack.remove()
        return False
    folders = [stack.folder, Path(note.scratch)]
    if note.pid != os.getpid() and processes.alive(note.pid, note.born) and stack.environment() is None:
        say(f"stopping the `up` that is under way (process {note.pid})")
        _end_process(note.pid)
    count = processes.stop(note.mark, folders)
    shutil.rmtree(note.scratch, ignore_errors=True)
    stack.remove()
    say(f"{count} processes stopped")
    return True


def _end_process(pid: int) -> None:
    """It must not start anything any more when this returns; what it has started is found by its mark."""
    try:
        process = psutil.Process(pid)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    except psutil.NoSuchProcess:
        pass
