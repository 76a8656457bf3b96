"""The command line: help is instant; bad input is one clear message and exit code 2; neither writes anything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import TINY, stillhouse

COMMANDS = (
    "", "experts", "distill", "evaluate", "demo", "recipes", "order", "embed", "compare", "trajectories",
    "trajectories list", "ui", "data check", "doctor", "seam", "texture", "sample", "models",
    "models fetch", "export",
)  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home of its own, so that what a command writes can be seen."""
    folder = tmp_path / "home"
    monkeypatch.setenv("STILLHOUSE_HOME", str(folder))
    for name in ("STILLHOUSE_STORE", "MLFLOW_TRACKING_URI", "STILLHOUSE_DATA"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_neither_torch_nor_ray_nor_mlflow(command):
    code = (
        "import sys\nfrom cluster import cli\nsys.argv = ['stillhouse', *sys.argv[1:], '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'torch', 'ray', 'mlflow', 'pyarrow', 'boto3'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *command.split()], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout


def png(side: int) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (side, side), 7).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(folder: Path, images: list[bytes], labels: list[int], image="image", label="label") -> str:
    """A dataset of two classes as a folder of Parquet; the test part is sound."""
    folder.mkdir(exist_ok=True)
    names = {"label": {"names": ["a", "b"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    metadata = {"huggingface": json.dumps({"info": {"features": names}})}
    for part, (xs, ys) in {"train": (images, labels), "test": ([png(8)] * 2, [0, 1])}.items():
        table = pa.table({image: pa.array([{"bytes": x, "path": ""} for x in xs]), label: pa.array(ys)})
        pq.write_table(table.replace_schema_metadata(metadata), folder / f"{part}.parquet")
    return str(folder)


SOUND = [png(8)] * 40
EVEN = [0, 1] * 20


def bad_inputs(folder: Path) -> dict[str, tuple[list[str], str]]:
    """Name: (overrides of the digits recipe, what the message must name)."""

    def data(name: str, *args, **kwargs) -> list[str]:
        return ["dataset.kind=parquet", f"dataset.path={parquet(folder / name, *args, **kwargs)}"]

    return {
        "unknown key": (["outer.setps=3"], "outer.setps"),
        "out of range": (["objective.syn_steps=0"], "objective.syn_steps"),
        "path missing": (["dataset.kind=parquet", "dataset.path=/no/such/place"], "/no/such/place"),
        "no image column": ([*data("a", SOUND, EVEN, image="picture"), "dataset.image=photo"], "picture"),
        "no label column": (data("b", SOUND, EVEN, label="target"), "target"),
        "undecodable": (data("c", [b"junk", *SOUND[1:]], EVEN), "row 0"),
        "sizes differ": (data("d", [png(9), *SOUND[1:]], EVEN), "9x9"),
        "label outside": (data("e", SOUND, [5, *EVEN[1:]]), "5"),
        "empty class": (data("f", SOUND, [0] * 40), "b"),
        "too many per class": (["synthetic.ipc=500"], "synthetic.ipc"),
        "beyond the epochs": (["objective.max_start_epoch=29"], "experts.epochs"),
        "device absent": (["device=cuda:7"], "cuda:7"),
    }


CASES = (
    "unknown key", "out of range", "path missing", "no image column", "no label column", "undecodable", "sizes differ",
    "label outside", "empty class", "too many per class", "beyond the epochs",
    pytest.param("device absent", marks=pytest.mark.ray),
)  # fmt: skip


@pytest.mark.parametrize("command", ["distill", "experts"])
@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_message_and_nothing_is_written(case, command, home, tmp_path, monkeypatch, capsys):
    overrides, named = bad_inputs(tmp_path)[case]
    assert stillhouse(monkeypatch, command, "digits", "network.depth=1", *overrides) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error:") and named in said.err, said.err
    assert not home.exists()


def test_a_store_that_cannot_be_written_is_refused(home, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    assert stillhouse(monkeypatch, "distill", "digits", "--store", f"file:{tmp_path}/file/store") == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert not home.exists()


def test_experts_of_another_network_or_dataset_are_refused(home, tmp_path, monkeypatch, capsys):
    import torch

    from cluster.store import open_store
    from cluster.trajectories import ExpertRecord, SetSpec, TrajectorySet

    spec = SetSpec("0" * 16, "f" * 64, {"kind": "convnet", "width": 1}, [("w", (3,))], list(range(31)), "float32")
    experts = TrajectorySet(open_store(f"file:{tmp_path}/store"), "others")
    experts.write_expert(spec, ExpertRecord(0, torch.zeros(31, 3), [0.5] * 31, [0.5] * 31, 0))
    experts.seal(spec, 1)
    arguments = ("distill", "digits", "objective.trajectories=others", "--store", f"file:{tmp_path}/store")
    assert stillhouse(monkeypatch, *arguments) == 2
    said = capsys.readouterr().err
    assert "dataset" in said and "network" in said and "layout" in said
    assert stillhouse(monkeypatch, *arguments[:2], "objective.trajectories=absent", *arguments[3:]) == 2
    assert "absent" in capsys.readouterr().err
    assert not home.exists()


def test_dry_run_prints_everything_and_starts_nothing(home, tmp_path, monkeypatch, capsys):
    out = tmp_path / "figures.json"
    code = stillhouse(monkeypatch, "distill", "digits", *TINY, "--dry-run", "--full", "--json", str(out))
    said = capsys.readouterr().out
    assert code == 0, said
    for line in ("objective.syn_steps = 3", f"store     file:{home}/store", "storage", "memory", "time"):
        assert line in said
    figures = json.loads(out.read_text())
    assert figures["recipe"]["objective"]["syn_steps"] == 3 and figures["memory_bytes"] > 0
    assert not home.exists()
    assert said.index("data      digits: 10 classes of 8x8x1") < said.index("time") < said.index("objective.syn_steps")
    assert "to train experts" in said and "of outer steps" in said and "would halve it" in said
    assert stillhouse(monkeypatch, "distill", "digits", *TINY, "--dry-run") == 0
    short = capsys.readouterr().out
    assert "objective.syn_steps" not in short and "--full prints them" in short and short.count("\n") <= 11
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()


@pytest.mark.parametrize("kind, needs", [("trajectory", True), ("distribution", False)])
def test_dry_run_says_whether_experts_are_needed(home, monkeypatch, capsys, kind, needs):
    tiny = [s for s in TINY if not s.startswith("objective.")]
    assert (
        stillhouse(monkeypatch, "distill", "digits", "objective={}", f"objective.kind={kind}", *tiny, "--dry-run") == 0
    )
    assert ("this recipe needs none" in capsys.readouterr().out) is not needs


def test_overrides_may_be_written_as_options(home, monkeypatch, capsys):
    assert stillhouse(monkeypatch, "distill", "digits", "--outer.setps=1", "--objective.syn_steps", "0") == 2
    said = capsys.readouterr().err
    assert "outer.setps" in said and "objective.syn_steps" in said


def test_evaluating_what_is_not_there_is_refused(home, monkeypatch, capsys):
    assert stillhouse(monkeypatch, "evaluate", "nothing-here") == 2
    assert "nothing-here" in capsys.readouterr().err


def test_recipes_lists_every_shipped_one_and_every_field(monkeypatch, capsys):
    from distill import recipe

    monkeypatch.setenv("COLUMNS", "400")
    assert stillhouse(monkeypatch, "recipes") == 0
    said = capsys.readouterr().out
    assert all(name in said for name in recipe.shipped())
    assert stillhouse(monkeypatch, "recipes", "--fields") == 0
    assert "objective.engine.keep" in capsys.readouterr().out


def test_an_error_names_an_address_without_its_password(home, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
    assert stillhouse(monkeypatch, "ui") == 2
    said = capsys.readouterr().err
    assert "http://***@127.0.0.1:9" in said and "secret" not in said and "ann" not in said


def test_tab_completes_names_of_recipes(tmp_path):
    """As a shell asks for it, with the words so far in its variables."""
    code = "from cluster import cli; import sys; sys.argv = ['stillhouse']; cli.app(prog_name='stillhouse')"
    words = {"COMP_WORDS": "stillhouse distill mtt-cif", "COMP_CWORD": "2", "_STILLHOUSE_COMPLETE": "complete_bash"}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **words}, capture_output=True, text=True)
    assert "mtt-cifar10-1ipc" in done.stdout.split() and "digits" not in done.stdout


def test_memory_that_will_not_suffice_is_said_before_the_run(monkeypatch):
    from support import small

    from cluster.cli import distill
    from distill.cost import estimate

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    context = small.context("trajectory")
    assert distill._memory_is_short(context) == []
    monkeypatch.setattr(estimate, "free_bytes", lambda context: 1000)
    lines = distill._memory_is_short(context)
    assert lines[0].startswith("distilling needs ") and "1 kB is free" in lines[0] and len(lines) > 1
