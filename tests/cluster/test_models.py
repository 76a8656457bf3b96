"""`stillhouse models` and `stillhouse export` on a real registry, as a user types them."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from support import small
from support.cli import stillhouse

from cluster.tracking import registry
from cluster.tracking.run import Tracker
from distill.published import FILE, load, read, write

CLASSES = ("ant", "bee", "[bold]cow")
TAGS = {
    "selection_accuracy": "0.5", "test_mean": "0.51", "test_std": "0.01", "test_n": "3", "protocol": "mtt",
    "network": "convnet", "budget_ipc": "1.0", "recipe": "tiny", "preprocess": "none",
}  # fmt: skip
MODEL = "tiny-mtt-pixels-1ipc"


def published(seed: int):
    pixels = torch.rand(3, 1, 5, 6, generator=torch.Generator().manual_seed(seed))
    return small.published(pixels, torch.eye(3), pixels, CLASSES, 0.02, {"name": "tiny"}, 7, {"images": pixels})


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A home with two versions of a model, the second better and judged on another network."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        uri = f"sqlite:///{home}/mlflow.db"
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        for i, more in enumerate(
            (
                {},
                {
                    "selection_accuracy": "0.6",
                    "network": "resnet",
                    "parent_run": "gan-1",
                    "fid": "3.1",
                    "fid_features": "x",
                },
            )
        ):
            write(published(i), home / f"set-{i}")
            registry.publish(Tracker.open(uri, "t", str(i), str(i), {}, {}), MODEL, home / f"set-{i}", TAGS | more)
    return home


@pytest.fixture(autouse=True)
def there(home, monkeypatch, tmp_path):
    monkeypatch.setenv("STILLHOUSE_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    for name in ("STILLHOUSE_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def test_models_are_listed_and_shown(monkeypatch, capsys):
    assert stillhouse(monkeypatch, "models", "list", "--json", "list.json") == 0
    assert f"{MODEL}" in (said := capsys.readouterr().out) and "51.0 ± 1.0 (v2)" in said
    (model,) = json.loads(Path("list.json").read_text())
    assert [v["number"] for v in model["versions"]] == [2, 1] and model["versions"][0]["aliases"] == ["best"]
    assert stillhouse(monkeypatch, "models", "show", "tiny@best") == 0
    said = capsys.readouterr().out
    assert f"{MODEL}/2" in said and "resnet" in said and "51.0 ± 1.0 %" in said
    shown = {line.split()[0]: line.split()[-1] for line in said.splitlines()}
    assert (shown["parent_run"], shown["fid"], shown["fid_features"]) == ("gan-1", "3.1", "x")
    assert stillhouse(monkeypatch, "models", "list", "nothing-of-this-name") == 0
    assert "no such model" in capsys.readouterr().out


def test_promotion_is_refused_in_words_and_forced(monkeypatch, capsys):
    assert stillhouse(monkeypatch, "models", "promote", f"{MODEL}/1") == 0
    assert "@champion is version 1" in capsys.readouterr().out
    assert stillhouse(monkeypatch, "models", "promote", f"{MODEL}/2") == 2
    assert "network: resnet; champion: convnet" in capsys.readouterr().err
    assert stillhouse(monkeypatch, "models", "promote", f"{MODEL}/2", "--force") == 0
    assert "@champion is version 2" in (said := capsys.readouterr().out) and "before it was version 1" in said


def test_versions_are_compared_and_what_makes_them_incomparable_is_marked(monkeypatch, capsys):
    assert stillhouse(monkeypatch, "models", "compare", f"{MODEL}/1", f"{MODEL}/2") == 0
    said = capsys.readouterr().out
    assert "not comparable: they differ in network" in said and "convnet" in said and "resnet" in said
    assert stillhouse(monkeypatch, "models", "compare", f"{MODEL}/1", f"{MODEL}/1") == 0
    assert "not comparable" not in capsys.readouterr().out


def test_fetch_brings_the_files_with_the_tracking_address_alone(home, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
    assert stillhouse(monkeypatch, "models", "fetch", f"{MODEL}/1", "--json", "fetched.json") == 0
    figures = json.loads(Path("fetched.json").read_text())
    folder = tmp_path / f"{MODEL}-1"
    assert figures["folder"] == str(folder) and (folder / FILE).read_bytes() == (home / "set-0" / FILE).read_bytes()
    assert figures["sha256"] == registry.sha256(folder / FILE) and figures["sha256"][:16] in capsys.readouterr().out
    assert torch.equal(load("models:/tiny@best").images, published(1).images)
    assert stillhouse(monkeypatch, "models", "fetch", "absent") == 2
    assert "stillhouse models list" in capsys.readouterr().err


def test_export_takes_models_and_files_and_does_not_overwrite(home, monkeypatch, capsys):
    assert stillhouse(monkeypatch, "export", "tiny@best", "--out", "hf", "--json", "files.json") == 0
    files = {Path(f["file"]).name: f["sha256"] for f in json.loads(Path("files.json").read_text())}
    assert files.keys() == {"README.md", "train-00000-of-00001.parquet", FILE, "images.png"}
    assert files[FILE] == registry.sha256(home / "set-1" / FILE)
    assert "accuracy" in Path("hf/README.md").read_text()
    capsys.readouterr()
    assert stillhouse(monkeypatch, "export", "tiny@best", "--out", "hf") == 2
    assert "is there already" in capsys.readouterr().err
    assert stillhouse(monkeypatch, "export", "hf", "--format", "parquet", "--out", "pq") == 0
    assert pq.read_table("pq/synthetic.parquet").num_rows == 3
    assert stillhouse(monkeypatch, "export", f"hf/{FILE}", "--format", "safetensors", "--out", "st") == 0
    assert torch.equal(read(Path("st")).images, published(1).images)
    assert stillhouse(monkeypatch, "export", "hf", "--format", "png", "--out", "png") == 0
    assert sorted(path.name for path in Path("png").iterdir()) == ["ant", "bee", "bold-cow", "labels.csv"]
