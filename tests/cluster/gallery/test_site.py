"""The site as files: what is found of results, downloads, refusals, escaping, pages that stand alone."""

import hashlib
import io
import re
import zipfile
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import gallery
from support.cli import stillhouse

from cluster.gallery import charts, downloads, pages, site, sources
from cluster.gallery.assets import Embedded, Folder, sprite, strip
from cluster.gallery.result_page import shown_recipe
from cluster.tracking.metrics import curves
from distill.errors import DataError, StoreError
from distill.picture import grid, sheet, ungrid
from distill.published import FILE, forms, load, write


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    return gallery.places(tmp_path_factory.mktemp("gallery"))


@pytest.fixture(scope="module")
def first(where):
    (result,) = sources.find(["first-20"], where.store, where.tracking, 4, 40)
    return result


def test_a_run_comes_with_its_accuracy_baselines_curves_frames_and_real_images(first):
    own, other = first.evaluations
    assert own.score == {"mean": 0.91, "std": 0.01, "n": 5} and own.baselines["random"]["mean"] == 0.7
    assert other.network == "resnet-18" and other.scores == {"ior": 0.21}
    assert first.frames.steps == (0, 10, 20) and not first.frames.pictures
    for shown, level in zip(first.frames.shown, (0.1, 0.5, 0.9), strict=True):
        assert shown.shape == (10, 1, 8, 8) and torch.allclose(shown, torch.tensor(level), atol=1 / 255)
    assert first.curves == {"loss": [(0, 1.0), (10, 1 / 11), (20, 1 / 21)]}  # test_accuracy is one point
    assert [len(images) for images in first.real] == [4] * 10 and not first.notes
    assert (first.load, first.method, first.dataset) == ("models:/first/3", "pixels × trajectory", "digits")
    assert (first.budget.floats, first.budget.bits, first.budget.ipc) == (640, 20480, 1.0)


def test_real_images_are_of_their_class_and_the_same_each_time(first, where):
    from distill.data import read
    from distill.recipe import Digits

    raw = read(Digits())
    for k, images in enumerate(first.real):
        own = raw.train_x[raw.train_y == k].float() / 255
        assert all((own == image).flatten(1).all(1).any() for image in images)
    (again,) = sources.find(["first-20"], where.store, where.tracking, 4, 40)
    assert all(torch.equal(a, b) for a, b in zip(first.real, again.real, strict=True))


def test_of_other_data_no_real_images_are_shown(where, tmp_path, first):
    write(replace(first.published, data={"train": "0" * 64, "test": "0" * 64}), tmp_path / "other")
    (result,) = sources.find([str(tmp_path / "other")], where.store, where.tracking, 4, 40)
    assert result.real == [] and any("not those that the set was distilled from" in note for note in result.notes)
    assert result.load == FILE and result.evaluations == ()


def test_pictures_that_are_not_of_the_stored_images_are_shown_as_they_are(first):
    x = torch.rand(10, 1, 16, 16)
    frames = sources._frames(first.published, [(0, grid(x)), (5, grid(x))])
    assert frames.steps == (0, 5) and not frames.shown and len(frames.pictures) == 2


@pytest.mark.parametrize("shape", [(10, 1, 8, 8), (3, 3, 64, 64), (7, 3, 32, 32), (20, 3, 128, 96)])
@pytest.mark.parametrize("labels", [False, True])
def test_images_are_cut_out_of_a_picture_again(shape, labels):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).mul(255).round() / 255
    picture = grid(x, labels=[str(k) for k in range(len(x))] if labels else None)
    assert torch.equal(ungrid(picture, shape), x)
    assert ungrid(picture.resize((picture.width // 2, picture.height // 2)), shape) is None
    assert ungrid(picture, (*shape[:2], shape[2] + 1, shape[3] + 1)) is None
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (picture.height, picture.width, 3), np.uint8))
    assert ungrid(noise, shape) is None


def test_images_are_cut_out_of_the_sheet_of_a_set_with_rows_of_classes():
    x = torch.rand(50, 3, 8, 8).mul(255).round() / 255
    y = torch.eye(10).repeat_interleave(5, 0)
    assert torch.equal(ungrid(sheet(x, y, tuple("abcdefghij")), tuple(x.shape)), x)


def test_nothing_to_show_and_unknown_names_are_refused(where, tmp_path):
    with pytest.raises(DataError, match="no run in .* has ended"):
        sources.find([], f"file:{tmp_path}/empty", where.tracking, 0, 2)
    with pytest.raises(DataError, match="'nothing' is no path, no run of"):
        sources.find(["nothing"], where.store, where.tracking, 0, 2)


def test_without_the_tracking_database_the_page_says_what_is_missing(where, tmp_path):
    (result,) = sources.find(["first-20"], where.store, f"sqlite:///{tmp_path}/none.db", 0, 2)
    assert "no curves or frames: no tracking database" in result.notes[0] and not result.curves


def test_results_of_one_name_have_folders_of_their_own():
    taken: set[str] = set()
    names = ["a/Digits", "b/digits", "../..", "models:/x@best", "ü"]
    assert [sources._slug(name, taken) for name in names] == ["digits", "digits-2", "result", "x-best", "result-2"]


def test_downloads_are_the_published_bytes_with_their_digest(first, where, tmp_path):
    files = {d.name: d for d in downloads.downloads(first, Folder(tmp_path))}
    assert list(files) == [FILE, "synthetic.parquet", "images-png.zip"]
    for name, found in files.items():
        data = (tmp_path / found.url).read_bytes()
        assert hashlib.sha256(data).hexdigest() == found.sha256
        if name != "images-png.zip":
            assert data == (where.folder / "first" / name).read_bytes()
    assert torch.equal(load(tmp_path / "files" / FILE).images, first.published.images)
    assert downloads.png_zip(first) == (tmp_path / "files/images-png.zip").read_bytes()


def test_the_zip_has_a_folder_per_class_and_every_soft_label(tmp_path, first):
    made = gallery.poster()
    with zipfile.ZipFile(io.BytesIO(downloads.png_zip(replace(first, published=made)))) as archive:
        names = archive.namelist()
        assert len(names) == 10 and not any(".." in name or name.startswith("/") for name in names)
        lines = archive.read("labels.csv").decode().splitlines()
        assert lines[0] == "file,label,soft_label" and lines[5].endswith("0.25 0.25 0.25 0.25")
        with Image.open(io.BytesIO(archive.read(names[0]))) as image:
            assert image.size == (8, 8)
            levels = np.asarray(image) / 255
    assert np.abs(levels - made.shown[0, :, :8, :8].permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6


def test_parquet_is_written_if_only_the_safetensors_file_is_at_hand(first, where):
    lone = replace(first, files={FILE: first.files[FILE]})
    made = downloads.downloads(lone, Embedded())
    digest = hashlib.sha256((where.folder / "first" / "synthetic.parquet").read_bytes()).hexdigest()
    assert next(d for d in made if d.name == "synthetic.parquet").sha256 == digest


def test_a_folder_with_other_files_is_left_alone_and_a_site_is_replaced(where, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match="holds other files"):
        site.build(["first-20"], out, where.store, where.tracking)
    (out / "thesis.tex").rename(out / site.MARK)
    (out / "old.html").write_text("x")
    site.build(["first-20"], out, where.store, where.tracking, site.Options(real=0, downloads=False))
    assert not (out / "old.html").exists() and (out / "first-20" / "index.html").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # nothing is left of the building


def test_every_link_of_a_site_leads_to_a_file(where, tmp_path, monkeypatch):
    monkeypatch.setattr(forms, "SAMPLER_MODULES", ("support.",))
    sets = gallery.folders(where)
    site.build(["first-20", "second-20", *sets.values()], tmp_path / "site", where.store, where.tracking)
    found = 0
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text()
        assert not re.search(r"\s(style|on\w+)=[\"']", re.sub(r"<script.*?</script>", "", text, flags=re.S))
        for url in re.findall(r'(?:href|src|data-sprite|data-cells)="([^"#]*)[^"]*"', text):
            if url and not url.startswith("data:"):
                assert (page.parent / url).is_file(), f"{page.name}: {url}"
                found += 1
    assert found > 100


def test_hostile_names_are_escaped_everywhere(where, tmp_path, monkeypatch):
    monkeypatch.setattr(forms, "SAMPLER_MODULES", ("support.",))
    path = gallery.folders(where)["hostile"]
    site.build([path], tmp_path / "site", where.store, where.tracking)
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text()
        assert "<img src=x" not in text and "<script>window" not in text and "<b onmouseover" not in text
        assert "/home/somebody" not in text


def test_the_policy_names_the_style_and_the_scripts_of_the_page():
    text = pages.render("index", "index.html", title="t", groups=[], count=0, methods=[], budgets=[])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    scripts, (style,) = (
        re.findall(r"<script>(.*?)</script>", text, re.S),
        re.findall(r"<style>(.*?)</style>", text, re.S),
    )
    assert len(scripts) == 2 and policy == pages.policy([style], scripts)
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_the_templates_and_scripts_are_files_of_the_package():
    folder = resources.files("cluster.gallery")
    for kind, names in pages.SCRIPTS.items():
        assert (folder / "templates" / f"{kind}.html.j2").is_file()
        assert all((folder / "static" / name).is_file() for name in names)


def test_a_page_that_stands_alone_has_every_picture_in_it(first):
    text = site.alone(first, site.Options())
    assert text.count("data:image/webp;base64,") >= 30
    urls = re.findall(r'(?:href|src|data-sprite)="([^"]*)"', text)
    assert all(url.startswith(("data:", "#")) for url in urls)


def test_one_network_has_no_deviation(first):
    own = first.evaluations[0]
    alone = replace(first, evaluations=[replace(own, score={"mean": 0.577, "std": 0.0, "n": 1})])
    several, one = (site.alone(result, site.Options()) for result in (first, alone))
    assert "91.0 <small>± 1.0 %</small>" in several and "57.7 <small>%</small>" in one and "± 0.0" not in one


def test_sprites_stack_the_steps_and_strips_keep_their_gaps_clear(tmp_path):
    frames = [torch.full((3, 1, 8, 8), level) for level in (0.0, 1.0)]
    made = sprite(Folder(tmp_path), "s", frames)
    with Image.open(tmp_path / made.url) as image:
        assert image.size == (made.width, 2 * made.height) == (26, 16) and made.count == 2
        pixels = np.asarray(image.convert("RGBA"))
    assert pixels[:8, 0, 0].max() == 0 and pixels[8:, 0, 0].min() == 255 and pixels[:, 8, 3].max() == 0
    assert strip(frames[0], columns=1).size == (8, 26)


def test_charts_are_to_scale_and_escaped():
    svg = charts.bar({"mean": 0.25, "std": 0.05, "n": 3}, {"full": {"mean": 0.9, "std": 0, "n": 3}}, '<x> "')
    assert 'class="bar" width="250.0"' in svg and 'x1="200.0" x2="300.0"' in svg and 'x1="900.0"' in svg
    assert "&lt;x&gt; &#34;: 25.0 ± 5.0 %; all training images: 90.0 ± 0.0 %" in svg
    line = charts.curve("loss", [(0, 1.0), (5, float("nan")), (10, 3.0)], 5)
    assert 'points="8.0,128.0 352.0,12.0"' in line and 'class="marked" x1="180.0"' in line and "nan" not in line
    assert charts.curve("loss", [(0, float("inf"))], 0) == ""
    many = charts.curve("loss", [(i, i % 7) for i in range(10_000)], None)
    assert len(re.search(r'polyline class="line" points="([^"]*)"', many)[1].split()) <= charts.MOST_POINTS + 1


def test_paths_of_a_machine_are_not_shown():
    text = shown_recipe({"dataset": {"path": "/home/me/photos", "kind": "folder"}, "name": "x"})
    assert text == 'dataset.path = "photos"\ndataset.kind = "folder"\nname = "x"'


def test_curves_of_a_run_that_mlflow_does_not_have(where):
    assert curves(where.tracking, "distill", "nobody") == {}


def test_the_command_writes_a_site_and_a_page_into_the_run(where, tmp_path, monkeypatch, capsys):
    from cluster.tracking.run import Tracker

    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", where.tracking)
    out = tmp_path / "site"
    arguments = ("first-20", "--out", str(out), "--store", where.store, "--no-downloads", "--track")
    assert stillhouse(monkeypatch, "gallery", *arguments) == 0
    assert f"{out}/index.html" in capsys.readouterr().out.replace("\n", "") and (out / "first-20/index.html").is_file()
    tracker = Tracker.find(where.tracking, "distill", "first-20")
    page = tracker.client.download_artifacts(tracker.run_id, "gallery/index.html", str(tmp_path))
    assert "data:image/webp" in Path(page).read_text()
    assert stillhouse(monkeypatch, "gallery", "nothing", "--out", str(out), "--store", where.store) == 2
    assert "is no path, no run of" in capsys.readouterr().err
