"""Whole jobs on real Ray: on a cluster by `ray job submit`, on a Ray of the command's own, and after kill -9."""

import contextlib
import hashlib
import json
import re
import signal
import subprocess
import time
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
import torch
from support.cli import ROOT, STILLHOUSE, TINY, finish, start
from support.killing import kill_tree, kill_workers, wait_for
from support.ray_head import RAY, head

from cluster.jobs import evaluating, experts
from cluster.results.runs import Run, run_ids
from cluster.store import open_store
from cluster.tracking.run import connect
from distill import context as contexts
from distill import recipe

pytestmark = pytest.mark.ray
DISTILL = ("distill", "digits", *TINY, "outer.steps=60", "outer.evaluate_every=30")


def only_run(home: Path) -> Run:
    store = open_store(f"file:{home}/store")
    (run_id,) = run_ids(store)
    return Run(store, run_id)


def submit(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess:
    """Run a `ray job submit`, asking again (each takes seconds) while the head's job agent is still starting."""
    for _ in range(30):
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        if "No available agent" not in done.stderr:
            break
    return done


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The home of a run that nothing disturbed, submitted to a cluster."""
    folder = tmp_path_factory.mktemp("cluster")
    home = folder / "home"
    with head(folder) as env:
        job = {"env_vars": {"STILLHOUSE_HOME": str(home)}}
        command = [RAY, "job", "submit", "--working-dir", ".", "--runtime-env-json", json.dumps(job), "--"]
        env["PATH"] = f"{Path(STILLHOUSE).parent}:{env['PATH']}"
        done = submit([*command, STILLHOUSE, *DISTILL], env)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "distilling 60/60" in done.stdout, "job logs show progress as plain lines"
    return home


def test_a_submitted_job_publishes_everywhere(undisturbed):
    run = only_run(undisturbed)
    result = run.result()
    uri = f"sqlite:///{undisturbed}/mlflow.db"
    client = connect(uri)
    (tracked,) = client.search_runs([client.get_experiment_by_name("distill").experiment_id])
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["objective.syn_steps"] == "3"
    steps = [m.step for m in client.get_metric_history(tracked.info.run_id, "loss")]
    assert steps == list(range(1, 61))
    assert len(client.list_artifacts(tracked.info.run_id, "images")) >= 2
    version = client.get_model_version_by_alias("digits-mtt-pixels-1ipc", "best")
    assert (result["model"], version.tags["recipe"], version.tags["seed"]) == (version.name, "digits", "0")
    assert float(version.tags["test_mean"]) == result["test_mean"]
    for what in (run.run_id, "digits@best", str(undisturbed / "store/runs" / run.run_id / "published")):
        published = evaluating.find(what, f"file:{undisturbed}/store", uri)
        assert published.images.shape == (10, 1, 8, 8)
        assert torch.isfinite(published.images).all()
    assert (result["budget_floats"], result["budget_ipc"]) == (640, 1.0)


def test_a_second_time_there_is_nothing_left_to_do(undisturbed):
    before = sorted(p for p in (undisturbed / "store").rglob("*") if p.is_file())
    said = finish(start(undisturbed, *DISTILL), undisturbed)
    assert "on the test images" in said
    assert sorted(p for p in (undisturbed / "store").rglob("*") if p.is_file()) == before


def test_evaluate_has_baselines_beside_the_set(undisturbed, tmp_path):
    run, out = only_run(undisturbed), tmp_path / "figures.json"
    finish(start(undisturbed, "evaluate", run.run_id, "threads=1", "--json", str(out)), undisturbed)
    figures = json.loads(out.read_text())
    assert {"mean", "std", "n", "protocol", "network", "budget_floats", "budget_ipc"} <= set(figures)
    assert figures["n"] == figures["full"]["n"] == 2 and 0 <= figures["random"]["mean"] <= 1


def test_nan_stops_the_run_and_names_step_and_checkpoint(undisturbed):
    process = start(undisturbed, *DISTILL, "outer.lr_img=1e30")
    assert process.wait() == 2
    said = (undisturbed / "output.log").read_text()
    assert "NaN or Inf in" in said and "at step" in said and "last good checkpoint: none" in said
    assert "Traceback" not in said
    for run_id in run_ids(open_store(f"file:{undisturbed}/store")):
        assert Run(open_store(f"file:{undisturbed}/store"), run_id).result() is not None


POSTER = (
    "poster-digits-05", *(s for s in TINY if s.startswith(("dataset.", "network."))), "objective.unroll=4",
    "objective.window=2", "outer.steps=4", "outer.evaluate_every=2", "outer.picture_every=2", "evaluation.steps=[5]",
    "evaluation.networks=2", "evaluation.selection_networks=2", "synthetic.order=optimal",
)  # fmt: skip


def test_a_poster_from_the_command_line_to_the_registry_and_the_judge(tmp_path):
    home, out = tmp_path / "home", tmp_path / "figures.json"
    finish(start(home, "distill", *POSTER), home)
    run, uri = only_run(home), f"sqlite:///{home}/mlflow.db"
    published = evaluating.find("poster-digits-05@best", f"file:{home}/store", uri)
    assert (published.images.shape, published.labels.shape) == ((40, 1, 8, 8), (40, 10))
    assert (published.labels.max(1).values < 1).any(), "soft labels"
    assert {"images.png", "as-stored.png", "regions.png", "patches.png"} <= {
        entry.key.rpartition("/")[2] for entry in run.store.list(f"{run.folder}/published")
    }
    client = connect(uri)
    (tracked,) = client.search_runs([client.get_experiment_by_name("distill").experiment_id])
    steps = {a.path.split("+step+")[1].split("+")[0] for a in client.list_artifacts(tracked.info.run_id, "images")}
    assert {"2", "4"} <= steps
    finish(start(home, "evaluate", "poster-digits-05@best", "--baselines", "random", "--json", str(out)), home)
    figures = json.loads(out.read_text())
    assert figures["budget_floats"] == 319 and figures["real_ipc"] == 0.4 and figures["data"] == published.data
    assert figures["n"] == figures["random"]["n"] == 2


@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_kill_9_and_again_gives_the_same_bytes(undisturbed, victim, tmp_path):
    home = tmp_path / "home"
    process = start(home, *DISTILL)
    store = open_store(f"file:{home}/store")
    for kept in (0, 20):  # a worker dies a second time further on; a second start of a driver costs more
        wait_for(lambda: run_ids(store) and newest(only_run(home)) > kept, process, home / "output.log")  # noqa: B023
        if victim == "driver":
            kill_tree(process.pid)
            process.wait()
            assert only_run(home).result() is None, "the kill came too late to prove anything"
            process = start(home, *DISTILL)
            break
        kill_workers(process.pid)
    said = finish(process, home)
    assert said.count("resumed after step") == (1 if victim == "driver" else 2)
    assert only_run(home).result()["sha256"] == only_run(undisturbed).result()["sha256"]


def newest(run: Run) -> int:
    """The step of a run's last checkpoint; 0 if there is none."""
    keys = run.checkpoints()
    return int(keys[-1].rpartition("/")[2].partition(".")[0]) if keys else 0


def open_to_others(pid: int) -> list[str]:
    """Addresses beyond loopback on which a process, or one that it started, listens."""
    found = []
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            places = [c.laddr for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
            away = [a for a in places if not ip_address(a.ip.removeprefix("::ffff:")).is_loopback]
            found += [f"{process.name()} {a.ip}:{a.port}" for a in away]
    return found


def gone(pids: list[int]) -> bool:
    """Whether none of them runs."""
    return not any(psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE for p in pids)


@pytest.mark.nightly  # three starts of Ray
def test_ctrl_c_and_sigterm_save_a_checkpoint_mark_the_run_and_say_how_to_continue(tmp_path):
    """And what listens meanwhile is on loopback; and nothing of a killed command stays."""
    home, log = tmp_path / "home", tmp_path / "home" / "output.log"
    uncompiled = ("objective.engine.compile=off", "experts.compile=off")
    endless = (*DISTILL, *uncompiled, "outer.steps=1000000", "outer.checkpoint_every=300000")
    stops = []
    for signum, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process, lines = start(home, *endless), len(stops) + 1
        wait_for(lambda: re.search(r"distilling [1-9]\d*/", log.read_text().rpartition("again\n")[2]), process, log)
        assert open_to_others(process.pid) == []
        process.send_signal(signum)
        assert process.wait() == code
        said = log.read_text()
        (*_, stop) = re.findall(r"with a checkpoint after step (\d+); to continue: stillhouse distill digits", said)
        stops.append(int(stop))
        assert said.count("to continue:") == lines and "Traceback" not in said and "SIGTERM received" not in said
        assert f"{only_run(home).folder}/checkpoints/{stops[-1]:08d}.safetensors" in only_run(home).checkpoints()
        client = connect(f"sqlite:///{home}/mlflow.db")
        (tracked,) = client.search_runs([client.get_experiment_by_name("distill").experiment_id])
        assert tracked.info.status == "KILLED"
        log.write_text(said + "again\n")
    assert f"resumed after step {stops[0]}" in said and stops[1] > stops[0]
    process = start(home, *endless)
    wait_for(lambda: f"resumed after step {stops[1]}" in log.read_text(), process, log)
    started = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    process.kill()
    process.wait()
    patience = time.monotonic() + 60
    while not gone(started):
        assert time.monotonic() < patience, "processes of a killed command stay"
        time.sleep(0.2)


# ---------------------------------------------------------------- experts

EXPERTS = ("digits", *TINY, "dataset.limit=0", "network.width=24", "experts.epochs=60", "experts.state_every=4")


def test_kill_9_of_a_worker_inside_an_expert_costs_the_epochs_since_its_last_saved_state(tmp_path, one_thread):
    """Against experts trained undisturbed in this process: a Ray worker, killed or not, must not change a byte."""
    context = contexts.prepare(recipe.load("digits", list(EXPERTS[1:])))
    experts.train_here(context, f"file:{tmp_path}/undisturbed")
    home, folder = tmp_path / "home", f"experts/{context.recipe.own_experts_name(context.data.fingerprint)}"
    process, store = start(home, "experts", *EXPERTS), open_store(f"file:{tmp_path}/home/store")

    def saved() -> list[int]:
        states = store.list(f"{folder}/partial/expert-00000/")
        return [int(entry.key.rpartition("/")[2].split("-")[1]) for entry in states]

    wait_for(lambda: saved() and saved()[-1] >= 8, process, home / "output.log")
    at_kill = saved()[-1]
    kill_workers(process.pid)
    assert f"{folder}/expert-00000.arrow" not in [e.key for e in store.list(folder)], "the kill came too late"
    said = finish(process, home)
    (resumed,) = re.findall(r"expert 0 resumed after epoch (\d+)", said)
    assert int(resumed) >= at_kill
    assert sha256(store, folder) == sha256(open_store(f"file:{tmp_path}/undisturbed"), folder)
    assert store.list(f"{folder}/partial/") == []
    client = connect(f"sqlite:///{home}/mlflow.db")
    (tracked,) = client.search_runs([client.get_experiment_by_name("experts").experiment_id])
    for metric in ("expert-000/test_accuracy", "expert-001/train_accuracy", "mean-of-2/test_accuracy"):
        assert [m.step for m in client.get_metric_history(tracked.info.run_id, metric)] == list(range(61))


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sha256(store, folder: str) -> dict[str, str]:
    """Of the experts by key."""
    keys = [entry.key for entry in store.list(folder) if entry.key.endswith(".arrow")]
    return {key: hashlib.sha256(store.read(key)).hexdigest() for key in keys}


@pytest.mark.nightly  # two starts of Ray side by side
def test_of_two_commands_on_one_run_the_second_waits_and_publishes_nothing(tmp_path):
    """They share experts and run: each is made once, and both end well."""
    command, store = ("distill", "digits", *TINY), f"file:{tmp_path}/store"
    tracking = f"sqlite:///{tmp_path}/mlflow.db"
    shared = {"STILLHOUSE_STORE": store, "MLFLOW_TRACKING_URI": tracking}
    homes = [tmp_path / "one", tmp_path / "two"]
    said = [finish(p, home) for p, home in zip([start(h, *command, **shared) for h in homes], homes, strict=True)]
    said = [" ".join(text.split()) for text in said]  # the console wraps lines
    waited = [text for text in said if "waiting until it has ended" in text]
    assert len(waited) == 1 and "works on runs/" in waited[0] and "process " in waited[0]
    assert "this run has ended before; nothing is left to do" in waited[0]
    assert len(Run(open_store(store), run_ids(open_store(store))[0]).checkpoints()) == 2
    assert [int(v.version) for v in connect(tracking).search_model_versions()] == [1]
    left = [json.loads(open_store(store).read(entry.key)) for entry in open_store(store).list("claims/runs/")]
    assert [claim["owner"] for claim in left] == [""]
