"""Whatever a class, run, file or key is called: nothing is written elsewhere, and no name becomes markup or code."""

import json
import os
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.gallery import published
from support.names import HOSTILE, lists, names
from support.tori import canvases

from cluster.gallery import site, sources
from cluster.gallery.result import Budget, Frames, Result
from cluster.store.base import valid_key
from cluster.store.local import LocalStore
from cluster.tracking import card, naming
from cluster.tracking.run import Tracker
from distill import data, recipe, textures
from distill.errors import RecipeError, StillhouseError, StoreError
from distill.published import FILE, Images, read, write
from distill.published.dataset_card import dataset_card
from distill.published.export import FORMATS as EXPORTS
from distill.published.export import export
from distill.recipe import settings as of_recipes

SEVERAL = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
"""For tests with a folder: each example makes one below it."""
FEW = settings(SEVERAL, max_examples=12)


def a_set(classes, **values):
    """An image of noise for each class."""
    x = torch.rand(len(classes), 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return published(Images(x, torch.eye(len(classes))), classes, {"name": "set", **values}, x)


@pytest.fixture
def inside(tmp_path):
    """A new folder at each call, in one that nothing else may be written to."""
    made = []

    def new() -> Path:
        outer = tmp_path / f"{len(made):04d}"
        made.append(outer / "inside")
        made[-1].mkdir(parents=True)
        return made[-1]

    yield new
    assert all([path.name for path in folder.parent.iterdir()] == ["inside"] for folder in made)


def names_below(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


# ---------------------------------------------------------------- files of a set


@SEVERAL
@given(lists(2, 4))
def test_a_set_is_written_and_read_with_any_class_names(inside, classes):
    folder = inside()
    write(a_set(classes), folder)
    assert sorted(names_below(folder)) == ["images.png", "recipe.json", "synthetic.parquet", FILE]
    assert read(folder).classes == tuple(classes)
    features = json.loads(pq.read_schema(folder / "synthetic.parquet").metadata[b"huggingface"])["info"]["features"]
    assert features["label"]["names"] == classes


@SEVERAL
@given(lists(2, 4))
def test_every_export_stays_in_its_folder(inside, classes):
    for form in EXPORTS:
        folder = inside()
        paths = export(a_set(classes, paper=classes[0]), form, folder, {})
        assert sorted(path.relative_to(folder).as_posix() for path in paths) == sorted(names_below(folder))
        assert all(re.fullmatch(r"[\w./-]+", name, re.A) and ".." not in name for name in names_below(folder))
        if form == "png":
            assert len({Path(name).parent for name in names_below(folder) if name.endswith(".png")}) == len(classes)


@given(names, names)
def test_the_header_of_a_dataset_card_has_its_keys_and_no_others(name, paper):
    known = {"test_mean": 0.5, "test_std": 0.1, "test_n": 5, "network": name, "protocol": paper, "budget_ipc": 1.0}
    text = dataset_card(a_set((name, f"{name} 2"), name=name, paper=paper), known, [FILE], "rows.parquet")
    _, header, body = re.split(r"^---$", text, maxsplit=2, flags=re.M)
    assert list(yaml.safe_load(header)) == [
        "license", "license_name", "pretty_name", "task_categories", "tags", "size_categories", "configs",
        "distillation",
    ]  # fmt: skip
    assert [line for line in body.splitlines() if line.startswith("#")] == [body.splitlines()[2]]
    assert "<" not in body and "](http" not in body


@SEVERAL
@given(lists(2, 3))
def test_textures_are_files_of_their_folder(inside, classes):
    folder = inside()
    found = textures.textures(canvases(classes, size=(32, 32)))
    for one in found:
        textures.write(folder / f"{one.slug}.png", b"x")
    assert len(names_below(folder)) == len(classes)
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", one.slug) and len(one.slug) <= 90 for one in found)


# ---------------------------------------------------------------- pages


class Structure(HTMLParser):
    """The elements of a page with the names of their attributes, and the text between them."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, tuple(name for name, _ in attributes)))
        self.links += [value for name, value in attributes if name in ("href", "src")]


def result_of(classes, slug: str = "set", **texts) -> Result:
    made = a_set(classes)
    return Result(
        slug=slug, title=texts.get("title", "title"), name=texts.get("name", "name"),
        dataset=texts.get("dataset", "data"), method=texts.get("method", "a × b"), published=made,
        budget=Budget(64, 2048, 1.0, 0), evaluations=(), selection="", curves={}, frames=Frames(), real=[],
        load=texts.get("load", FILE), files={}, notes=(texts.get("note", "note"),),
    )  # fmt: skip


@FEW
@given(lists(3, 3), st.tuples(*[names] * 5))
def test_a_page_has_the_same_elements_whatever_it_shows(inside, classes, texts):
    """Names are text: not an element, an attribute, a link or a file more than with plain ones."""
    pages = {}
    plain = dict(zip(("title", "name", "dataset", "method", "note"), ["plain"] * 5, strict=True))
    hostile = dict(zip(plain, texts, strict=True))
    for kind, labels, shown in (("plain", ["a", "b", "c"], plain), ("hostile", classes, hostile)):
        folder = inside()
        site.write([result_of(labels, **shown)], folder, site.Options(real=0))
        found = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.html")}
        pages[kind] = {name: Structure(text) for name, text in found.items()}
        files = [name for name in names_below(folder) if not name.endswith(".html")]
        assert all(re.fullmatch(r"[\w./-]+", name, re.A) for name in files)
    assert pages["plain"].keys() == pages["hostile"].keys()
    for name, page in pages["hostile"].items():
        assert page.elements == pages["plain"][name].elements
        assert page.links == pages["plain"][name].links


@given(st.lists(names, max_size=8))
def test_results_have_folders_of_their_own(given_names):
    taken: set[str] = set()
    slugs = [sources._slug(name, taken) for name in given_names]
    assert len(set(slugs)) == len(slugs)
    assert all(re.fullmatch(r"[a-z0-9_][a-z0-9_-]*", slug) and len(slug) < 80 for slug in slugs)


@given(st.lists(names, min_size=1, max_size=4), names)
def test_a_model_card_is_one_table_with_nothing_of_a_name_in_its_markup(classes, text):
    tags = {"recipe": text, "paper": text, "network": text, "test_mean": "0.5", "test_std": "0.1", "test_n": "5"}
    said = card.of_version(tags, tuple(classes), "model", 1)
    plain = card.of_version(dict.fromkeys(tags, "x") | dict(list(tags.items())[3:]), ("x",) * len(classes), "model", 1)
    assert "<" not in re.sub(r"<br ?/?>", "", said)
    if text != "None" and len(said) < card.LONGEST:
        bars = [[len(re.findall(r"(?<!\\)\|", line)) for line in page.splitlines()] for page in (said, plain)]
        assert bars[0] == bars[1]


# ---------------------------------------------------------------- names of runs, models, recipes


@given(names)
@example("../up")
@example("a" * 64)
def test_a_recipe_has_a_plain_name_or_is_refused(name):
    try:
        read_ = recipe.load("digits", [f"name={json.dumps(name)}"])
    except RecipeError:
        assert not re.fullmatch(of_recipes.NAME, name)
        return
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", read_.name) and valid_key(f"runs/{read_.run_id('0' * 64)}/x")


@given(names)
def test_a_file_or_folder_of_any_name_gives_a_valid_recipe_name_and_model(name):
    slug = of_recipes.slug(name)
    values = recipe.override({"name": slug, "dataset": {"kind": "digits"}}, [], "test")
    assert values.name == slug
    path = f"/data/{name}"
    dataset = recipe.Folder(kind="folder", path=path, size=8) if name else values.dataset
    model = naming.model_name(values.model_copy(update={"dataset": dataset}), (name, "b"), 8, 1.0)
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", model)


@settings(FEW, max_examples=6)
@given(st.lists(names, min_size=1, max_size=3, unique=True), names)
def test_mlflow_takes_parameters_and_tags_of_any_name_and_value(tmp_path_factory, keys, value):
    """In one database: the runs are told apart by their keys, which have quotes in them."""
    uri = f"sqlite:///{tmp_path_factory.getbasetemp()}/names.db"
    params = {f"dataset.{key}": value for key in keys}
    tracker = Tracker.open(uri, "names", "run", "key", params, {"stillhouse.about": value})
    tracker.tag({"stillhouse.message": value})
    tracker.finish()
    assert Tracker.find(uri, "names", "key").run_id == tracker.run_id


# ---------------------------------------------------------------- keys of a store


@SEVERAL
@given(names)
@example("a/../../x")
@example("a/./b")
@example("a//b")
def test_an_object_is_below_its_store_or_refused(inside, key):
    root = inside() / "store"
    store = LocalStore(root)
    try:
        store.create(key, b"x")
    except StoreError:
        assert not valid_key(key) and not root.exists()
        return
    assert [entry.key for entry in store.list()] == [key] == names_below(root)
    assert store.read(key) == b"x"


@given(names)
def test_a_name_with_two_dots_or_a_slash_in_front_is_no_key(name):
    for key in (f"../{name}", f"{name}/../x", f"/{name}", f"a/{name}/..", f"{name}\0", f"{name}\n"):
        assert not valid_key(key)


# ---------------------------------------------------------------- data with paths in them


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), 200).save(path)


def is_file_name(name: str) -> bool:
    return name not in ("", ".", "..") and not {"/", "\0"} & set(name) and len(name.encode()) < 200


@FEW
@given(st.lists(names.filter(is_file_name), min_size=2, max_size=3, unique=True))
def test_folders_of_any_name_are_classes_or_refused(inside, classes):
    folder = inside() / "data"
    for name in classes:
        for i in range(12):
            picture(folder / name / f"{i}.png")
    settings_ = recipe.Folder(kind="folder", path=str(folder), size=8)
    try:
        loaded = data.load(settings_, 0, torch.device("cpu"))
    except StillhouseError as error:
        assert str(folder) in str(error)
        return
    assert set(loaded.classes) <= set(classes)


OUTSIDE = ("../outside", "../../outside", "/tmp/outside-of-a-test", "a/../../outside", "C:\\outside", "a\\..\\outside")


@pytest.mark.parametrize("name", OUTSIDE)
def test_paths_in_parquet_rows_are_never_opened(inside, name):
    """A row of the Hugging Face layout may name a file in place of its bytes."""
    folder = inside()
    (folder / "secret.png").write_bytes(b"secret")
    rows = [{"bytes": None, "path": name}, {"bytes": None, "path": str(folder / "secret.png")}]
    pq.write_table(pa.table({"image": rows, "label": [0, 1]}), folder / "train.parquet")
    with pytest.raises(StillhouseError) as refused:
        data.load(recipe.Parquet(kind="parquet", path=str(folder / "train.parquet"), size=8), 0, torch.device("cpu"))
    assert "secret.png" not in str(refused.value) or "bytes" in str(refused.value)


@pytest.mark.parametrize("name", OUTSIDE)
def test_members_of_an_archive_are_never_written(inside, name):
    folder, x = inside(), np.zeros((20, 8, 8), np.uint8)
    x[:, 2:6] = np.arange(20, dtype=np.uint8)[:, None, None]
    y = np.arange(20) % 2
    np.savez(folder / "set.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with zipfile.ZipFile(folder / "set.npz", "a") as archive:
        archive.writestr(f"{name}.npy", b"outside")
    before = names_below(folder)
    data.load(recipe.Npz(kind="npz", path=str(folder / "set.npz")), 0, torch.device("cpu"))
    assert names_below(folder) == before and not os.path.exists("/tmp/outside-of-a-test.npy")


def test_half_a_character_is_named_by_its_code(inside):
    """NumPy's texts hold what UTF-8 cannot."""
    folder, x, y = inside(), np.arange(20 * 64, dtype=np.uint8).reshape(20, 8, 8), np.arange(20) % 2
    names_of_classes = np.array(["\ud800", "b"])
    np.savez(folder / "set.npz", x_train=x, y_train=y, x_test=x, y_test=y, classes=names_of_classes)
    loaded = data.load(recipe.Npz(kind="npz", path=str(folder / "set.npz")), 0, torch.device("cpu"))
    assert loaded.classes == ("\\ud800", "b") and len(loaded.fingerprint) == 64


@pytest.mark.parametrize("name", OUTSIDE)
def test_tensors_of_a_set_that_are_called_like_paths_are_no_files(inside, name):
    folder = inside()
    write(a_set(("a", "b")), folder)
    file = folder / FILE
    with safetensors.safe_open(file, "pt") as opened:
        tensors, about = {k: opened.get_tensor(k) for k in opened.keys()}, opened.metadata()
    header = json.loads(about["stillhouse"])
    header["classes"] = [name, f"{name} 2"]
    safetensors.torch.save_file(tensors | {f"state.{name}": torch.zeros(1)}, file, {"stillhouse": json.dumps(header)})
    header["classes"] = ["\ud800", "b"]
    half = folder / "half.safetensors"
    safetensors.torch.save_file(tensors, half, {"stillhouse": json.dumps(header)})
    with pytest.raises(StillhouseError, match="half.safetensors"):
        read(half)
    again = folder / "again"
    found = read(file)
    write(found, again)
    for form in EXPORTS:
        export(found, form, folder / form, {})
    assert all(".." not in path and "outside" in path or name not in path for path in names_below(folder))
    assert not any("\\" in path for path in names_below(folder))


def test_the_list_has_what_it_should():
    """Control characters, separators, two dots, markup, right to left, very long."""
    text = "".join(HOSTILE)
    assert all(part in text for part in ("\0", "\n", "\x1b", "/", "\\", "..", "<", "\u202e"))
    assert max(map(len, HOSTILE)) > 4000
