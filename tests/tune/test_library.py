"""What trials share: data are loaded once, and the tensors of several processes are views of the same memory."""

import pytest
import ray
import torch

from cluster.jobs.session import session
from distill import data, recipe
from tune import library
from tune.library import Library, key_of, share

pytestmark = pytest.mark.ray
RECIPE = recipe.load("digits", ["dataset.limit=100"])


@pytest.fixture(scope="module")
def ray_session():
    with session() as opened:
        opened.wait()
        yield


@ray.remote(num_cpus=0)
class Reader:
    """A process that works with a dataset as a trial does."""

    def take(self, library_actor, wanted: dict) -> tuple[str, float]:
        (ref,) = ray.get(library_actor.dataset.remote(wanted))
        self.dataset = ray.get(ref).to(torch.device("cpu"))
        x = self.dataset.train.x
        return self.mapping_of(x.data_ptr()), float(x.double().sum())

    @staticmethod
    def mapping_of(address: int) -> str:
        """The file behind the memory at an address, with the offset in it."""
        with open("/proc/self/maps") as maps:
            for line in maps:
                ends, _, offset, _, inode, *path = line.split()
                low, high = (int(end, 16) for end in ends.split("-"))
                if low <= address < high:
                    return f"{' '.join(path)} {inode} {address - low + int(offset, 16)}"
        return "none"


def test_processes_share_one_copy_that_is_loaded_once(ray_session):
    library_actor = Library.remote()
    readers = [Reader.remote() for _ in range(2)]
    wanted = RECIPE.model_dump(mode="json")
    (place, total), (other, same) = ray.get([reader.take.remote(library_actor, wanted) for reader in readers])
    assert ray.get(library_actor.count.remote()) == 1
    assert place == other and "plasma" in place, (place, other)
    assert (
        total == same == pytest.approx(float(data.load(RECIPE.dataset, 0, torch.device("cpu")).train.x.double().sum()))
    )


def test_what_was_loaded_before_is_not_loaded_again(ray_session):
    library_actor = Library.remote()
    dataset = data.load(RECIPE.dataset, RECIPE.seed, torch.device("cpu"))
    ray.get(library_actor.add.remote(key_of(RECIPE), [share(dataset)]))
    (ref,) = ray.get(library_actor.dataset.remote(RECIPE.model_dump(mode="json")))
    shared = ray.get(ref)
    assert ray.get(library_actor.count.remote()) == 0
    assert shared.fingerprint == dataset.fingerprint
    torch.testing.assert_close(shared.test.x, dataset.test.x, rtol=0, atol=0)
    pixels = [d.preprocess.to_pixels(d.test.x) for d in (shared, dataset)]
    torch.testing.assert_close(*pixels, rtol=0, atol=0)


def test_other_data_are_loaded_and_the_oldest_dropped(ray_session):
    library_actor = Library.remote()
    for seed in range(library.KEPT + 1):
        ray.get(library_actor.dataset.remote(RECIPE.model_copy(update={"seed": seed}).model_dump(mode="json")))
    assert ray.get(library_actor.count.remote()) == library.KEPT + 1
    ray.get(library_actor.dataset.remote(RECIPE.model_copy(update={"seed": 1}).model_dump(mode="json")))
    assert ray.get(library_actor.count.remote()) == library.KEPT + 1
    ray.get(library_actor.dataset.remote(RECIPE.model_dump(mode="json")))
    assert ray.get(library_actor.count.remote()) == library.KEPT + 2


def test_memory_notes_are_kept_by_trial(ray_session):
    library_actor = Library.remote()
    ray.get(library_actor.ran_out.remote(3, 1000))
    assert ray.get(library_actor.memory_notes.remote()) == {3: 1000}
