"""Datasets on a real S3 server: copied once, never mixed up with another version, never trusted when damaged."""

import pytest
from support.cli import stillhouse
from support.pictures import write

from cluster.datasets import fetch
from distill import data
from distill.errors import DataError, StoreError
from distill.recipe import Folder, Parquet

FILES = {f"{kind}/{i}.png": 50 * k + i for k, kind in enumerate(("Cat", "dog")) for i in range(5)}


@pytest.fixture
def upload(s3_server, s3_bucket, s3_url, tmp_path, monkeypatch):
    """Puts files below the test's prefix; returns the url."""
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    prefix = s3_url.removeprefix(f"s3://{s3_bucket}/")

    def put(files: dict) -> str:
        folder = write(tmp_path / "source", files)
        for name in files:
            s3_server.client().upload_file(str(folder / name), s3_bucket, f"{prefix}/{name}")
        return s3_url

    return put


def copies(tmp_path) -> list:
    return [entry for entry in (tmp_path / "home/cache/objects").iterdir() if entry.is_dir()]


def test_a_prefix_is_read_like_the_folder_it_came_from(upload, tmp_path):
    url = upload(FILES)
    far, near = data.read(Folder(path=url)), data.read(Folder(path=str(tmp_path / "source")))
    assert far.fingerprint == near.fingerprint and far.classes == ("Cat", "dog")
    data.read(Folder(path=url))
    assert len(copies(tmp_path)) == 1


def test_check_of_a_url(upload, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # for the contact sheet
    url = upload(FILES | {"dog/broken.png": b"junk"})
    assert stillhouse(monkeypatch, "data", "check", url) == 2
    said = capsys.readouterr().out
    assert "folder, 4x4, 3 channels, 2 classes" in said and "dog/broken.png: not a PNG" in said and "1 fault\n" in said


def test_one_object_and_its_neighbours(upload, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from support.pictures import encoded

    table = pa.table({"image": pa.array([encoded(v) for v in range(10)], pa.binary()), "label": [0, 1] * 5})
    pq.write_table(table, tmp_path / "all.parquet")
    content = (tmp_path / "all.parquet").read_bytes()
    url = upload({"all.parquet": content, "all.parquet.bak": b"another"})
    raw = data.read(Parquet(path=f"{url}/all.parquet"))
    assert len(raw.train_y) + len(raw.test_y) == 10 and fetch(f"{url}/all.parquet").read_bytes() == content


def test_a_new_version_of_an_object_is_fetched(upload, tmp_path):
    url = upload(FILES)
    before = data.read(Folder(path=url)).fingerprint
    upload({"dog/1.png": 200})
    assert data.read(Folder(path=url)).fingerprint != before and len(copies(tmp_path)) == 2


def test_a_damaged_copy_is_fetched_again(upload, tmp_path):
    url = upload(FILES)
    good = fetch(url)
    (good / "dog" / "1.png").write_bytes(b"junk")
    assert fetch(url) == good and (good / "dog/1.png").read_bytes() == (tmp_path / "source/dog/1.png").read_bytes()
    (good / "dog" / "1.png").unlink()
    assert (fetch(url) / "dog" / "1.png").is_file()


def test_a_disk_that_refuses_the_copy_is_named(upload, monkeypatch):
    url = upload(FILES)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(DataError, match="cannot be copied to .*objects: .*No space left.* free space or set"):
        fetch(url)


def test_what_is_not_there_and_keys_that_cannot_be_names(upload, s3_url):
    with pytest.raises(DataError, match="nothing is at s3://"):
        fetch(s3_url)
    with pytest.raises(StoreError, match="there is no bucket 'no-such-bucket'"):
        fetch("s3://no-such-bucket/x")


@pytest.mark.parametrize("key", ["../up.png", "a/../../b", ".hidden", "a\\b", "line\nbreak"])
def test_keys_that_leave_the_folder_are_refused(upload, s3_server, s3_bucket, s3_url, tmp_path, key):
    url = upload({"a/1.png": 1})
    prefix = s3_url.removeprefix(f"s3://{s3_bucket}/")
    s3_server.client().put_object(Bucket=s3_bucket, Key=f"{prefix}/{key}", Body=b"x")
    with pytest.raises(DataError, match="cannot be the name of a file here"):
        fetch(url)
    assert not (tmp_path / "home/cache/objects").exists()
