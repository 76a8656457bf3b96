"""What goes wrong in a worker is raised in its driver as the exception that it was."""

import importlib
import pkgutil
from typing import TYPE_CHECKING

import pytest
import torch

import cluster
import distill
from cluster.jobs import group, together
from cluster.jobs.events import Note
from cluster.jobs.group import Job, Worker
from cluster.jobs.session import session
from distill import recipe
from distill.data.faults import Refused
from distill.errors import StillhouseError, TrajectoryError, WorkerError

if TYPE_CHECKING:  # a real worker imports this module too, without the folder of tests on its path
    from support.boards import LocalBoard


def error_classes() -> list[type[StillhouseError]]:
    """Every error class of the project, found in all of its modules."""
    for package in (distill, cluster):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    found, todo = [], [StillhouseError]
    while todo:
        found.append(todo.pop())
        todo += found[-1].__subclasses__()
    return [kind for kind in found if kind.__module__.partition(".")[0] in ("distill", "cluster")]


def example(kind: type[StillhouseError]) -> StillhouseError:
    return (
        kind("/data/birds", ["no labels", "no images"]) if kind is Refused else kind(f"what is wrong: {kind.__name__}")
    )


@pytest.fixture
def board(monkeypatch) -> "LocalBoard":
    from support.boards import LocalBoard

    monkeypatch.setattr(group.ray, "get", lambda answer: answer)
    monkeypatch.setattr(group.allocator, "settle", lambda: None)
    return LocalBoard()


def run_in_process(board: "LocalBoard", error: Exception, on_event=lambda event: None) -> None:
    def work(worker: Worker, config: dict) -> None:
        worker.post(Note("about to fail"))
        raise error

    job = Job(work, {}, board, torch.get_num_threads(), 0)
    group.watch(lambda: group.in_worker(Worker(0, 1, torch.device("cpu"), board), job), board, on_event)


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_every_error_class_arrives_as_it_was_raised(board, kind):
    sent, events = example(kind), []
    with pytest.raises(kind) as raised:
        run_in_process(board, sent, events.append)
    arrived = raised.value
    assert type(arrived) is kind and str(arrived) == str(sent) and vars(arrived) == vars(sent)
    assert events == [Note("about to fail")]


def test_an_error_with_its_own_constructor_needs_no_help_to_travel(board):
    class Awkward(StillhouseError):
        def __init__(self, where: str, *, count: int):
            super().__init__(f"{where}: {count} faults")
            self.count = count

    with pytest.raises(StillhouseError, match="^here: 3 faults$") as raised:
        run_in_process(board, Awkward("here", count=3))
    assert raised.value.count == 3


def test_any_other_error_arrives_with_the_traceback_of_the_worker(board):
    with pytest.raises(WorkerError, match="ZeroDivisionError: by nothing") as raised:
        run_in_process(board, ZeroDivisionError("by nothing"))
    assert "in work" in str(raised.value)


def test_a_worker_that_is_killed_again_and_again_is_given_up(board):
    for _ in range(group.RESTARTS + 1):
        board.join.remote(0, 1)
    with pytest.raises(WorkerError, match="worker 0 was killed 6 times"):
        run_in_process(board, ZeroDivisionError())


def test_a_worker_whose_peer_has_died_reports_no_fault_so_that_its_group_starts_again(board, monkeypatch):
    def gone(*arguments, **options) -> None:
        raise RuntimeError("Read error [127.0.0.1]:35028: Connection reset by peer")

    monkeypatch.setattr(together.dist, "new_group", lambda **options: None)
    monkeypatch.setattr(together.dist, "all_reduce", gone)
    reduce, wait = together.together(2)
    for collective in (lambda: reduce(torch.zeros(1)), wait):
        job = Job(lambda worker, config, does=collective: does(), {}, board, torch.get_num_threads(), 0)
        with pytest.raises(together.PeerLost, match="another worker has gone: Read error"):
            group.in_worker(Worker(1, 2, torch.device("cpu"), board), job)
    assert board.drain.remote() == [] and not board.failed.remote()


def fail(worker: Worker, config: dict) -> None:
    raise Refused("/data/birds", ["no labels"])


@pytest.mark.ray
def test_a_real_worker_that_meets_a_damaged_dataset_says_so():
    with session() as opened:
        opened.wait()
        with pytest.raises(Refused, match="dataset /data/birds: 1 fault:\n  no labels") as raised:
            group.run(fail, {}, recipe.load("digits", ["threads=1"]), 1, lambda event: None)
    assert raised.value.faults == ["no labels"]


# ---------------------------------------------------------------- experts: missing is not damaged


def read_experts_as(what: str, context, url: str):
    """Ask for a recipe's experts as each job and command does."""
    from cluster.cli import distill as command
    from cluster.cli import embed, order
    from cluster.jobs import distilling, experts

    config = {"recipe": context.recipe.model_dump(mode="json"), "store": url, "dataset": context.data}
    return {
        "distill": lambda: command._experts_missing(context, url),
        "worker": lambda: distilling.context_with_experts(config, context.device),
        "evaluate": lambda: experts.find_reader(context, url),
        "embed": lambda: embed.network_of(context, url),
        "order": lambda: order._with_experts(context, url),
    }[what]()


@pytest.mark.parametrize("what", ["distill", "worker", "evaluate", "embed", "order"])
def test_a_damaged_manifest_is_never_taken_for_no_experts(tmp_path, what):
    from cluster.jobs.experts import train_here
    from distill import context as contexts

    settings = ["dataset.limit=300", "network.depth=1", "network.width=4", "experts.count=1", "experts.epochs=4",
                "objective.max_start_epoch=2", "device=cpu"]  # fmt: skip
    url = f"file:{tmp_path}"
    context = contexts.prepare(recipe.load("digits", settings))
    train_here(context, url)
    read_experts_as(what, context, url)
    (manifest,) = tmp_path.glob("experts/*/manifest-*.json")
    manifest.write_bytes(manifest.read_bytes().replace(b'"seed"', b'"sEEd"'))
    with pytest.raises(TrajectoryError, match="manifest-00001.json is damaged"):
        read_experts_as(what, context, url)
