"""A dataset that is not where its path says: the message names the place and what to do there."""

import pytest

from distill.data.places import SENT_BY_RAY, locate
from distill.errors import DataError


@pytest.fixture
def away(tmp_path, monkeypatch):
    monkeypatch.delenv("STILLHOUSE_DATA", raising=False)

    def message(*folders: str) -> str:
        folder = tmp_path.joinpath(*folders)
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(folder)
        with pytest.raises(DataError) as error:
            locate("photos")
        assert str(folder / "photos") in str(error.value)
        return str(error.value)

    return message


def test_on_a_laptop_the_path_or_the_folder_is_wrong(away):
    said = away()
    assert "correct dataset.path" in said and "STILLHOUSE_DATA" in said and "gitignore" not in said


def test_in_a_submitted_job_the_images_may_not_have_been_sent(away):
    """Ray leaves out what .gitignore lists without a word, and the folder looks right to who submitted it."""
    said = away("session_1", "runtime_resources", SENT_BY_RAY, "_ray_pkg_0123")
    assert "--working-dir" in said and ".gitignore" in said and "512 MiB" in said and "s3://" in said


def test_the_folder_is_called_as_ray_calls_it():
    from ray._private.runtime_env import working_dir

    source = open(working_dir.__file__).read()
    assert f'"{SENT_BY_RAY}"' in source
