"""Markers set by fixtures, an empty working folder, a fixed seed, the S3 server (started once per session), stores."""

import os
import uuid
from pathlib import Path

import hypothesis
import pytest
import torch
from hypothesis.configuration import set_hypothesis_home_dir
from support.ceph import server_or_skip

from cluster.store import open_store

# The same examples in every run, as many as fit into seconds; how long one takes depends on the machine.
hypothesis.settings.register_profile("stillhouse", derandomize=True, deadline=None, database=None, max_examples=25)
hypothesis.settings.load_profile("stillhouse")


def pytest_collection_modifyitems(config, items):
    """Whatever takes the S3 server or a browser, directly or through another fixture, is marked `s3` or `browser`.

    What is marked `nightly` runs only when asked for: pytest -m nightly.
    """
    if "nightly" not in config.option.markexpr:
        nightly = [item for item in items if item.get_closest_marker("nightly")]
        items[:] = [item for item in items if item not in nightly]
        config.hook.pytest_deselected(items=nightly)
    for item in items:
        for fixture, mark in (("s3_server", pytest.mark.s3), ("browser", pytest.mark.browser)):
            if fixture in item.fixturenames:
                item.add_marker(mark)


@pytest.fixture(scope="session", autouse=True)
def working_folder(tmp_path_factory):
    """An empty folder to run in: what a test writes by a relative path must not end up in the repository."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp("working-folder")
    set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(autouse=True)
def writes_only_below_tmp_path(working_folder):
    yield
    left = sorted(path.name for path in working_folder.iterdir())
    for name in left:  # the next test is not to blame
        (working_folder / name).rename(working_folder.with_name(f"left-{uuid.uuid4().hex}"))
    assert not left, f"{', '.join(left)} written into the working folder: write below tmp_path"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """What is away is not waited for, unless a test says for how long."""
    monkeypatch.setenv("STILLHOUSE_PATIENCE", "0")


@pytest.fixture(autouse=True)
def seeded():
    """What a test draws without a generator of its own is the same in every run."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def ray_only_if_marked(request, monkeypatch):
    """Commands start Ray in the background while they check their input. Without the mark `ray` it is not started, and
    a test whose command waits for it fails.
    """
    if not request.node.get_closest_marker("ray"):
        monkeypatch.setattr("cluster.jobs.session._connect", _refuse_ray)


def _refuse_ray() -> None:
    pytest.fail("this test starts Ray: mark it with pytest.mark.ray")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A running Ceph gateway (support.ceph.S3Server); skipped where it is not installed."""
    with server_or_skip(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_bucket(s3_server):
    return s3_server.bucket("stillhouse")


@pytest.fixture
def s3_url(s3_server, s3_bucket, monkeypatch):
    """Url of a new, empty store on the real server, configured through the environment as users do it."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_bucket}/{uuid.uuid4().hex}"


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.s3)])
def store(request, tmp_path):
    """An empty store of each kind: tests that take it run over both."""
    if request.param == "file":
        return open_store(f"file:{tmp_path}/store")
    return open_store(request.getfixturevalue("s3_url"))
