"""Pictures over steps, read back from a real tracking store."""

import pytest
from PIL import Image

from cluster.tracking import pictures
from cluster.tracking.pictures import frames
from cluster.tracking.run import Tracker
from distill.errors import MissingError, StoreError


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    """A store with the run `a`: pictures `set` at steps 0, 10, ... 60, and one `set/other`."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"
    tracker = Tracker.open(uri, "distill", "run", "a", {}, {})
    for step in (20, 0, 10, 30, 40, 60, 50):
        tracker.picture(step, "set", Image.new("RGB", (40, 20), (step, 0, 0)))
    tracker.picture(5, "set/other", Image.new("L", (8, 8)))
    return uri


def test_pictures_come_in_the_order_of_their_steps(uri):
    found = frames(uri, "distill", "a", "set", 100, 100)
    assert [step for step, _ in found] == [0, 10, 20, 30, 40, 50, 60]
    assert all(image.size == (40, 20) and image.getpixel((0, 0))[0] == step for step, image in found)


def test_names_with_a_slash_are_found_and_grey_becomes_rgb(uri):
    [(step, image)] = frames(uri, "distill", "a", "set/other", 100, 100)
    assert step == 5 and image.mode == "RGB"


def test_many_or_large_pictures_are_thinned_and_shrunk(uri):
    found = frames(uri, "distill", "a", "set", 3, 16)
    assert [step for step, _ in found] == [0, 30, 60] and {image.size for _, image in found} == {(16, 8)}


def test_of_two_pictures_of_a_step_the_newer_is_taken(uri, monkeypatch):
    names = [f"images/set+step+7+timestamp+{time}+id.png" for time in (900, 1000, 200)]
    listed = [*names, "images/set+step+7+timestamp+2000+id+compressed.webp", "images/other.png"]
    files = [type("File", (), {"path": path}) for path in listed]
    tracker = Tracker.find(uri, "distill", "a")
    monkeypatch.setattr(tracker.client, "list_artifacts", lambda run_id, path: files)
    assert pictures._files(tracker, "set") == {7: names[1]}


def test_what_is_missing_is_named(uri, tmp_path):
    with pytest.raises(MissingError, match="kept no 'nothing' pictures"):
        frames(uri, "distill", "a", "nothing", 9, 9)
    with pytest.raises(MissingError, match="no such run"):
        frames(uri, "distill", "b", "set", 9, 9)
    with pytest.raises(StoreError, match="no tracking database"):
        frames(f"sqlite:///{tmp_path}/none.db", "distill", "a", "set", 9, 9)
