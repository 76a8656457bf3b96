"""`stillhouse trajectories`: what is listed and shown, what is found damaged, what is deleted; and experts refused."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from support.cli import stillhouse
from support.trajectories import record_of, spec_of

from cluster.store import open_store
from cluster.trajectories import ExpertRecord, TrajectorySet


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The store of a home of its own: a sealed and described set, a grown one, one that nobody sealed or described."""
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STILLHOUSE_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    store = open_store(f"file:{tmp_path}/home/store")
    for name, finished, sealed in (("done", 4, 4), ("growing", 3, 2), ("begun", 1, 0)):
        experts = TrajectorySet(store, name)
        for i in range(finished):
            experts.write_expert(spec_of(), record_of(i))
        if sealed:
            experts.seal(spec_of(), sealed)
    about = {"dataset": "cifar[red]10", "preprocess": "zca", "shape": "3x32x32", "images": 45000, "classes": 10}
    TrajectorySet(store, "done").describe({**about, "recipe": "mine"})
    return store


def test_list_shows_every_set_sealed_or_not(store, monkeypatch, capsys, tmp_path):
    assert stillhouse(monkeypatch, "trajectories", "list", "--json", str(tmp_path / "list.json")) == 0
    begun, done, growing = json.loads((tmp_path / "list.json").read_text())
    assert [(s["name"], s["finished"], s["sealed"]) for s in (begun, done, growing)] == [
        ("begun", 1, 0), ("done", 4, 4), ("growing", 3, 2)
    ]  # fmt: skip
    assert done["test_accuracy"] == pytest.approx((0 + 0.01 + 0.02 + 0.03) / 4)
    assert done["test_accuracy_std"] == pytest.approx(np.std([0, 0.01, 0.02, 0.03], ddof=1))
    assert (done["epochs"], done["saved_epochs"], done["network"]) == (5, 4, "convnet-d3-w128-instance")
    assert done["bytes"] == sum(e.size for e in store.list("experts/done"))
    said = capsys.readouterr().out
    for text in ("cifar[red]10", "fingerprint ffffffffffff", "3, 2 sealed", "1, none sealed", "1.5 ± 1.3"):
        assert text in said, said


def test_show_tells_all_and_the_accuracy_per_epoch(store, monkeypatch, capsys, tmp_path):
    assert stillhouse(monkeypatch, "trajectories", "show", "done", "--json", str(tmp_path / "show.json")) == 0
    said = capsys.readouterr().out
    for text in ("cifar[red]10, zca, 3x32x32, fingerprint fff", "45000 images of 10 classes", "recipe    mine",
                 "5, 4 saved", "9 parameters, 36 B as float32", "40.0 ± 0.0"):  # fmt: skip
        assert text in said, said
    curve = json.loads((tmp_path / "show.json").read_text())["curve"]
    assert [row["epoch"] for row in curve] == [0, 1, 2, 5]
    assert [row["train_mean"] for row in curve] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert [row["test_mean"] for row in curve] == pytest.approx([0.1, 0.15, 0.2, 0.015])


def test_show_of_a_set_that_is_not_finished_says_so(store, monkeypatch, capsys):
    assert stillhouse(monkeypatch, "trajectories", "show", "begun") == 0
    assert "1, none sealed" in capsys.readouterr().out


def test_the_plot_has_both_curves_where_they_belong(store, monkeypatch, tmp_path):
    path = tmp_path / "plot.png"
    assert stillhouse(monkeypatch, "trajectories", "show", "done", "--plot", str(path)) == 0
    image = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB")).astype(int)
    for colour in ((0x1F, 0x77, 0xB4), (0xD9, 0x5F, 0x02)):
        rows, columns = np.nonzero(np.abs(image - colour).sum(2) < 30)
        assert len(rows) > 500 and np.ptp(columns) > 0.8 * image.shape[1], "a line from the first epoch to the last"
    assert stillhouse(monkeypatch, "trajectories", "show", "done", "--plot", str(tmp_path / "no/such/plot.png")) == 2


def test_verify_names_every_damaged_object_and_ends_with_2(store, monkeypatch, capsys, tmp_path):
    for name in ("done", "growing", "begun"):
        assert stillhouse(monkeypatch, "trajectories", "verify", name) == 0
    assert "1 experts read" in capsys.readouterr().out
    folder = store.root / "experts/growing"
    for number in (0, 2):  # one that is sealed, one that is not
        path = folder / f"expert-{number:05d}.arrow"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    out = tmp_path / "verify.json"
    assert stillhouse(monkeypatch, "trajectories", "verify", "growing", "--json", str(out)) == 2
    said = capsys.readouterr().err
    assert "2 of 3 experts are damaged" in said and "expert-00000.arrow" in said and "expert-00002.arrow" in said
    found = json.loads(out.read_text())
    assert (found["intact"], sorted(found["damaged"])) == (1, ["0", "2"])
    (folder / "expert-00001.arrow").unlink()
    assert stillhouse(monkeypatch, "trajectories", "verify", "growing") == 2
    assert "expert-00001.arrow is not there" in capsys.readouterr().err


def test_delete_asks_and_a_dry_run_only_lists(store, monkeypatch, capsys):
    before = store.list("experts")
    assert stillhouse(monkeypatch, "trajectories", "delete", "done", "--dry-run") == 0
    assert capsys.readouterr().out.count("would delete experts/done/") == 4 * 2 + 2
    assert stillhouse(monkeypatch, "trajectories", "delete", "done") == 2  # nobody is there to agree
    assert "add --yes" in capsys.readouterr().err
    monkeypatch.setattr("cluster.cli.trajectories.sys.stdin", Terminal("n\ny\n"))
    assert stillhouse(monkeypatch, "trajectories", "delete", "done") == 2
    assert store.list("experts") == before
    assert stillhouse(monkeypatch, "trajectories", "delete", "done") == 0
    assert not store.list("experts/done")
    assert stillhouse(monkeypatch, "trajectories", "delete", "growing", "--yes") == 0
    assert {e.key.split("/")[1] for e in store.list("experts")} == {"begun"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("command", ["show", "verify", "delete"])
@pytest.mark.parametrize("name, fault", [("../done", "set name"), ("absent", "there is no such set")])
def test_a_set_that_is_none_is_refused(command, name, fault, store, monkeypatch, capsys):
    assert stillhouse(monkeypatch, "trajectories", command, name) == 2
    assert fault in capsys.readouterr().err


def test_an_empty_store_says_what_fills_it(tmp_path, monkeypatch, capsys):
    assert stillhouse(monkeypatch, "trajectories", "list", "--store", f"file:{tmp_path}/store") == 0
    assert "stillhouse experts" in capsys.readouterr().out
    assert not (tmp_path / "store").exists()


# ---------------------------------------------------------------- sets that a recipe names


@pytest.fixture
def named(store):
    """A set `theirs` that fits the digits recipe: two experts, of which one is sealed by `seal`."""
    import torch

    from cluster.jobs.experts import spec_of
    from distill import context, recipe

    made = context.prepare(recipe.load("digits", SMALL), device=torch.device("cpu"))
    experts, spec = TrajectorySet(store, "theirs"), spec_of(made)
    theta = torch.zeros(len(spec.epochs), spec.size)
    for i in range(2):
        experts.write_expert(spec, ExpertRecord(i, theta, [0.5] * len(theta), [0.5] * len(theta), 0))
    experts.describe({"recipe": "digits"})
    return experts, spec


SMALL = ["network.depth=1", "network.width=4", "experts.epochs=8", "device=cpu"]
NAMED = ("distill", "digits", *SMALL, "objective.trajectories=theirs")


def test_a_named_set_that_is_not_sealed_is_refused(named, monkeypatch, capsys):
    assert stillhouse(monkeypatch, *NAMED) == 2
    assert "theirs: no sealed set of experts (2 trained so far); run `stillhouse experts`" in capsys.readouterr().err


def test_a_named_set_that_is_too_small_is_refused(named, monkeypatch, capsys):
    experts, spec = named
    experts.seal(spec, 1)
    assert stillhouse(monkeypatch, *NAMED, "experts.count=2") == 2
    said = capsys.readouterr().err
    assert "1 experts are sealed, 2 are needed" in said and "experts.count=2, or lower it to 1" in said
