"""Joining a cluster, or starting one: what is gone is named within seconds, and nothing is sent or left open."""

import json
import os
import socket
import subprocess
import sys

import pytest
from support.cli import stillhouse

from cluster.jobs import session
from cluster.jobs.session import check_address
from distill.errors import ClusterError


@pytest.fixture
def nobody() -> str:
    """A port of loopback on which nothing listens, for it is taken by a socket that does not."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("form", ["{}", "ray://{}", "http://{}/"])
def test_an_address_at_which_nothing_listens_is_named_with_the_fix(nobody, form, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", form.format(nobody))
    with pytest.raises(ClusterError, match=f"no Ray cluster answers at RAY_ADDRESS=.*{nobody}.*unset it"):
        check_address(form.format(nobody))


def test_an_address_that_swallows_all_packets_is_given_up(monkeypatch):
    """As a machine does that is switched off: nobody refuses, nobody answers."""

    def silence(place, timeout):
        assert place == ("10.1.2.3", 6379) and timeout <= 30
        raise TimeoutError

    monkeypatch.setattr(session.socket, "create_connection", silence)
    with pytest.raises(ClusterError, match="no Ray cluster answers"):
        check_address("10.1.2.3:6379")


def test_one_that_listens_and_those_that_ray_finds_itself_are_not_refused():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        check_address(f"127.0.0.1:{listening.getsockname()[1]}")
    check_address("auto")


def test_a_command_ends_with_2_in_one_line_and_writes_nothing(nobody, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_ADDRESS", nobody)
    monkeypatch.delenv("STILLHOUSE_STORE", raising=False)
    assert stillhouse(monkeypatch, "distill", "digits") == 2
    said = capsys.readouterr()
    assert f"no Ray cluster answers at RAY_ADDRESS={nobody}" in said.out + said.err and "Traceback" not in said.err
    assert not list((tmp_path / "home").glob("**/runs/*"))


@pytest.mark.parametrize("address", ["", "10.0.0.1:6379"])
def test_ray_sends_no_usage_and_a_ray_of_the_commands_own_has_a_token(address):
    code = "import json, os, cluster; print(json.dumps(dict(os.environ)))"
    before = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    before |= {"RAY_ADDRESS": address} if address else {}
    done = subprocess.run([sys.executable, "-c", code], env=before, capture_output=True, text=True, check=True)
    after = json.loads(done.stdout)
    assert after["RAY_USAGE_STATS_ENABLED"] == "0"  # MLflow's: tests/cluster/tracking/test_run.py
    if address:
        assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & set(after)
    else:
        assert after["RAY_AUTH_MODE"] == "token" and len(after["RAY_AUTH_TOKEN"]) == 64
