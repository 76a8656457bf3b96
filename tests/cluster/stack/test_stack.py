"""What `stillhouse up` starts is ready when it returns and gone after `stillhouse down`, whatever happened between."""

import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from support.cli import stillhouse

from cluster.jobs import metrics
from cluster.stack import processes, services, stack
from cluster.stack.services import Service
from cluster.stack.stack import StackError, down, up

FAMILY = """
import http.server, subprocess, sys, threading
child = "import time; open('child.log', 'a'); f = open('grandchild.log', 'a'); time.sleep(600)"
if sys.argv[2] == "family":
    subprocess.Popen([sys.executable, "-c", child], start_new_session=True, env={}, stdout=open("out.log", "a"))
if sys.argv[2] == "deaf":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[2] == "silent":
    threading.Event().wait()
if sys.argv[2] == "broken":
    sys.exit("no licence found")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
"""A service on a port; its child leaves the session, forgets the environment and writes to a file of the stack."""


def service(name: str, kind: str = "plain", **exports: str) -> Service:
    port = services.free_port()
    return Service(name, [sys.executable, "-c", FAMILY, str(port), kind], f"http://127.0.0.1:{port}", exports=exports)


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Have stacks consist of these services, and stop them all at the end; the name of the home folder."""
    home = tmp_path / "home"

    def use(**kinds: str) -> Path:
        chosen = [service(name, kind, **{f"URL_{name.upper()}": "x"}) for name, kind in kinds.items()]
        monkeypatch.setattr(stack, "_services", lambda *_: chosen)
        return home

    yield use
    down(home, print)


def belonging(home: Path) -> list[psutil.Process]:
    note = stack.Stack(home).note()
    return processes.find(note.mark, [home / "stack", Path(note.scratch)])


def quiet(text: str) -> None:
    pass


def test_what_is_up_answers_and_after_down_no_process_and_no_file_is_left(started):
    home = started(a="plain", b="family")
    environment = up(home, None, quiet)
    assert environment["URL_A"] == environment["URL_B"] == "x" and environment["STILLHOUSE_HOME"] == str(home)
    mine, scratch = belonging(home), Path(stack.Stack(home).note().scratch)
    assert len(mine) == 3 and scratch.is_dir()
    assert down(home, quiet) and not scratch.exists() and not list(home.iterdir())
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in mine)
    assert not down(home, quiet)


def test_a_second_up_gives_the_same_environment_and_starts_nothing(started):
    home = started(a="plain")
    first, before = up(home, None, quiet), {p.pid for p in belonging(home)}
    assert up(home, None, quiet) == first and {p.pid for p in belonging(home)} == before


def test_another_stack_and_readers_of_its_logs_are_left_alone(started, tmp_path):
    home = started(a="plain")
    up(home, None, quiet)
    log = home / "stack" / "a.log"
    reader = subprocess.Popen(["tail", "-f", str(log)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    other = processes.start([sys.executable, "-c", FAMILY, "0", "silent"], dict(os.environ), "other", tmp_path / "log")
    try:
        down(home, quiet)
        assert reader.poll() is None and other.poll() is None
    finally:
        for process in (reader, other):
            process.kill()
            process.wait()


def test_a_service_that_ends_is_named_with_its_last_words_and_the_others_are_stopped(started):
    home = started(a="plain", b="broken")
    with pytest.raises(StackError, match="(?s)b ended with 1.*no licence found"):
        up(home, None, quiet)
    assert not list(home.iterdir())


def test_a_service_that_never_answers_is_given_up(started, monkeypatch):
    monkeypatch.setattr(stack, "START_SECONDS", 0.5)
    home = started(a="plain", b="silent")
    with pytest.raises(StackError, match="not ready after"):
        up(home, None, quiet)
    assert not list(home.iterdir())


def test_a_process_that_ignores_sigterm_is_killed(started, monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.5)
    home = started(a="deaf")
    up(home, None, quiet)
    down(home, quiet)
    assert not list(home.iterdir())


UP = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
from cluster.stack import stack
from tests_stack import service
stack._services = lambda *_: [service("a", "family"), service("b", "silent")]
stack.up(Path({home!r}), None, print)
"""


@pytest.mark.parametrize("end", ["down", "kill"])
def test_down_in_the_middle_of_up_leaves_nothing(started, tmp_path, end):
    """Of an `up` that still waits for a service, and of one that was killed there."""
    home, root = started(), Path(__file__).parents[3]
    (tmp_path / "tests_stack.py").write_text(Path(__file__).read_text())
    paths = {"tests": str(tmp_path), "root": str(root), "home": str(home)}
    env = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    waiting = subprocess.Popen([sys.executable, "-c", UP.format(**paths)], env=env, stdout=subprocess.DEVNULL)
    try:
        while not (stack.Stack(home).note() and len(belonging(home)) == 3):
            assert waiting.poll() is None
            time.sleep(0.05)
        with pytest.raises(StackError, match=f"process {waiting.pid} is starting this stack"):
            up(home, None, quiet)
        mine = belonging(home)
        if end == "kill":
            waiting.kill()
            waiting.wait()
            with pytest.raises(StackError, match="stillhouse down"):
                up(home, None, quiet)
        assert down(home, quiet)
        waiting.wait(20)
        assert not list(home.iterdir()) and not any(p.is_running() and p.status() != "zombie" for p in mine)
    finally:
        waiting.kill()
        waiting.wait()


def test_two_ups_at_once_start_one_stack(started):
    home, got = started(a="plain"), []

    def one() -> None:
        try:
            got.append(up(home, None, quiet))
        except StackError:
            got.append(None)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([g for g in got if g]) >= 1 and len(belonging(home)) == 1


def test_an_end_that_was_interrupted_is_ended_by_the_next(started):
    home = started(a="plain")
    (home / "stack").mkdir(parents=True)
    (home / "stack" / "a.log").touch()
    with pytest.raises(StackError, match="stillhouse down"):
        up(home, None, quiet)
    down(home, quiet)
    assert up(home, None, quiet)


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "MLFLOW_TRACKING_URI", "STILLHOUSE_STORE"])
def test_services_do_not_see_another_cluster(started, monkeypatch, name):
    monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("KEPT", "1")
    home = started(a="plain")
    up(home, None, quiet)
    (process,) = belonging(home)
    assert process.environ().get(name) != "elsewhere" and process.environ()["KEPT"] == "1"


def test_the_command_prints_what_a_shell_takes_and_nothing_else(started, monkeypatch, capfd):
    home = started(ray="plain")
    monkeypatch.setenv("STILLHOUSE_HOME", str(home))
    environment = {"MLFLOW_TRACKING_URI": "http://x", "RAY_API_SERVER_ADDRESS": "http://y", "PATHS": "a 'b' $c"}
    monkeypatch.setattr(stack, "up", lambda *_: environment)
    assert stillhouse(monkeypatch, "up") == 0
    shell = subprocess.run(
        ["bash", "-c", f'{capfd.readouterr().out}\nprintf %s "$PATHS"'], capture_output=True, text=True
    )
    assert shell.stdout == "a 'b' $c"
    assert stillhouse(monkeypatch, "down") == 0 and "no stack is up" in capfd.readouterr().err


COUNTING = """
import ray, sys
ray.init("auto", log_to_driver=False)

@ray.remote
def work():
    import time
    from cluster.jobs import metrics
    one = metrics.JobMetrics("a-run-20")
    one.images_per_step = 2.5
    while True:
        one.step(first=True), one.epoch(2, 10), one.judged(0.5), one.saved()
        for kind in ("read", "written"):
            metrics.TRAFFIC.add(kind, 7)
        time.sleep(0.1)

running = work.remote()
sys.stdin.read()
"""


@pytest.mark.ray
@pytest.mark.slow
def test_the_real_stack_is_on_loopback_asks_for_its_token_and_exports_metrics(tmp_path):
    home = tmp_path / "home"
    environment = up(home, False, quiet)
    try:
        mine = belonging(home)
        sockets = [s for p in mine for s in p.net_connections("inet") if s.status == psutil.CONN_LISTEN]
        assert len(sockets) > 8 and {s.laddr.ip.removeprefix("::ffff:") for s in sockets} == {"127.0.0.1"}
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{environment['RAY_API_SERVER_ADDRESS']}/api/jobs/")
        token = Path(environment["RAY_AUTH_TOKEN_PATH"])
        assert token.stat().st_mode & 0o777 == 0o600
        assert not any(token.read_text() in " ".join(p.cmdline()) for p in mine)
        assert urllib.request.urlopen(f"{environment['MLFLOW_TRACKING_URI']}/version").read()
        started = " ".join(" ".join(p.cmdline()) for p in mine)
        _check_metrics(environment, re.search(r"--metrics-export-port=(\d+)", started)[1])
    finally:
        assert down(home, quiet)
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in mine)
    assert {p.name for p in home.iterdir()} <= {"mlflow.db", "artifacts"}


def _check_metrics(environment: dict[str, str], port: str) -> None:
    """What a task on this cluster counts is exported under the names that the dashboard asks for."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | environment
    # Its workers import the project from where this process does.
    env["PYTHONPATH"] = str(Path(metrics.__file__).parents[2])
    process = subprocess.Popen([sys.executable, "-c", COUNTING], stdin=subprocess.PIPE, env=env)
    try:
        found: set[str] = set()
        while not set(metrics.exported()) <= found:
            assert process.poll() is None
            page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode()
            found = {m[1] for m in re.finditer(r'^(ray_stillhouse_\w+)\{[^}]*run="a-run-20"', page, re.MULTILINE)}
            time.sleep(0.2)
        assert found == set(metrics.exported())
    finally:
        process.communicate(timeout=60)
