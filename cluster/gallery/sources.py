"""Results by name: a run of the store, a registered model, or a folder with a published set.

What is not at hand (MLflow's record of the run, the real images) is left out of the page, which says so.
"""

import math
import re
import tempfile
from pathlib import Path

from cluster.gallery import examples
from cluster.gallery.result import Budget, Evaluation, Frames, Result
from cluster.results import comparing
from cluster.results.runs import Run, run_ids
from cluster.store import Store, open_store
from cluster.tracking import registry
from cluster.tracking.metrics import curves
from cluster.tracking.pictures import frames
from distill.errors import DataError, MissingError, RecipeError, StoreError
from distill.picture import ungrid
from distill.published import FILE, Published, read

WHOLE = 1 << 16
"""Pixels: no picture is shrunk, so that images can be cut out of it again."""
STORED = (FILE, "synthetic.parquet", "sampler.py")


def find(names: list[str], store_url: str, tracking_uri: str, real: int, steps: int) -> list[Result]:
    """The results, in order; without names those of every run of the store that has ended.

    `real` images of each class and at most `steps` frames are read with them. Raises DataError if a name is nothing
    that is known, or if there is nothing to show.
    """
    store = open_store(store_url)
    names = names or [run_id for run_id in run_ids(store) if Run(store, run_id).result()]
    if not names:
        raise DataError(f"no run in {store.url} has ended, so there is nothing to show: `stillhouse distill` makes one")
    taken: set[str] = set()
    return [_result(name, store, tracking_uri, real, steps, taken) for name in dict.fromkeys(names)]


def _result(name: str, store: Store, tracking: str, real: int, steps: int, taken: set[str]) -> Result:
    published, files, run, known = _published(name, store, tracking)
    recipe, notes = published.recipe, []
    evaluations, selection = _evaluations(published, run, known)
    history, metrics = Frames(), {}
    if run:
        try:
            metrics = {k: c for k, c in curves(tracking, "distill", run.run_id).items() if "evaluation/" not in k}
            history = _frames(published, frames(tracking, "distill", run.run_id, "synthetic", steps, WHOLE))
        except StoreError as error:
            notes.append(f"no curves or frames: {_first_line(error)}")
    else:
        notes.append("no curves or frames: they are kept with runs, and this set's is not in the store")
    pictures = []
    try:
        pictures = examples.real_images(published, real) if real else []
    except (DataError, RecipeError, StoreError) as error:
        notes.append(f"no real images beside: {_first_line(error)}")
    dataset = recipe.get("dataset")
    return Result(
        slug=_slug(run.run_id if run else name, taken),
        title=str(recipe.get("name", name)),
        name=run.run_id if run else name,
        dataset=comparing.dataset_name(dataset) if dataset else "unknown data",
        method=" × ".join(recipe[block]["kind"] for block in ("synthetic", "objective") if block in recipe),
        published=published,
        budget=_budget(published, known),
        evaluations=evaluations,
        selection=selection,
        curves=metrics,
        frames=history,
        real=pictures,
        load=_load(name, known),
        files=files,
        notes=tuple(notes),
    )


def _published(name: str, store: Store, tracking: str) -> tuple[Published, dict[str, bytes], Run | None, dict]:
    """The set, its files, its run if that is in the store, and what its result or its registered version says."""
    runs = run_ids(store)
    if Path(name).exists():
        folder = Path(name)
        files = _of_folder(folder) if folder.is_dir() else {FILE: folder.read_bytes()}
        return read(folder), files, None, {}
    if name in runs:
        return _of_run(Run(store, name))
    try:
        tags = registry.tags(name, tracking)
        run = Run(store, tags["run_id"]) if tags.get("run_id") in runs else None
        if run and (run.result() or {}).get("sha256") == tags.get(registry.SHA256):
            return _of_run(run)
        with tempfile.TemporaryDirectory() as scratch:
            folder = registry.fetch(name, Path(scratch), tracking)
            return read(folder), _of_folder(folder), None, tags
    except (StoreError, MissingError) as error:
        raise DataError(f"{name!r} is no path, no run of {store.url} and no registered model ({error})") from None


def _of_run(run: Run) -> tuple[Published, dict[str, bytes], Run, dict]:
    result = run.result()
    if result is None:
        raise DataError(f"run {run.run_id} has not ended: run its `stillhouse distill` again")
    stored = {entry.key.rpartition("/")[2] for entry in run.store.list(f"{run.folder}/published/")}
    files = {name: run.store.read(f"{run.folder}/published/{name}") for name in STORED if name in stored}
    return run.published(), files, run, result


def _of_folder(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in STORED if (folder / name).is_file()}


def _evaluations(published: Published, run: Run | None, known: dict) -> tuple[tuple[Evaluation, ...], str]:
    """All that was measured, the recipe's own network first, and the part that chose the step."""
    if "test_mean" not in known:
        return (), str(known.get("selection", ""))
    score = {"mean": float(known["test_mean"]), "std": float(known["test_std"]), "n": int(known["test_n"])}
    first = Evaluation(known["network"], known["protocol"], score)
    if run is None:
        return (first,), known["selection"]
    entry = comparing.entry(run, known, published, {})
    own = Evaluation(entry.network, entry.protocol, entry.score, entry.baselines)
    more = [_evaluation(figures) for figures in run.evaluations()]
    same = [e for e in more if (e.network, e.protocol) == (own.network, own.protocol)]
    scores = next((e.scores for e in same if e.scores), {})
    own = Evaluation(own.network, own.protocol, own.score, own.baselines, scores)
    return (own, *(e for e in more if e not in same)), entry.selection


def _evaluation(figures: dict) -> Evaluation:
    baselines = comparing.named_scores(figures)
    score = {key: figures[key] for key in ("mean", "std", "n")}
    return Evaluation(figures["network"], figures["protocol"], score, baselines, figures.get("scores", {}))


def _budget(published: Published, known: dict) -> Budget:
    """As the run counted it; else the registered version's; else the numbers in the file."""
    real_image = math.prod(published.shape) * len(published.classes)
    if "budget_floats" in known:
        bits = round(known["budget_bits_per_class"] * len(published.classes))
        return Budget(known["budget_floats"], bits, known["budget_ipc"], known.get("shared_floats", 0))
    if "budget_ipc" in known:
        floats = round(float(known["budget_ipc"]) * real_image)
    else:
        tensors = published.stored.tensors().items()
        floats = sum(t.numel() for name, t in tensors if name != "y" and t.is_floating_point())
    return Budget(floats, 32 * floats, floats / real_image)


def _frames(published: Published, pictures: list) -> Frames:
    """The stored images at each step, cut out of the run's pictures; the pictures, if they are not made of those."""
    shape = tuple(published.shown.shape) if published.shown is not None else tuple(published.images.shape)
    steps = tuple(step for step, _ in pictures)
    shown = [ungrid(image, shape) for _, image in pictures]
    if all(x is not None for x in shown):
        return Frames(steps, tuple(shown))
    return Frames(steps, pictures=tuple(image for _, image in pictures))


def _load(name: str, known: dict) -> str:
    if "model" in known and "version" in known:
        return f"models:/{known['model']}/{known['version']}"
    return f"models:/{name.removeprefix('models:/')}" if "run_id" in known else FILE


def _slug(name: str, taken: set[str]) -> str:
    """A folder name: [a-z0-9_.-], none twice."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", Path(name).name.lower()).strip("-")[:63] or "result"
    number, slug = 2, plain
    while slug in taken:
        slug, number = f"{plain}-{number}", number + 1
    taken.add(slug)
    return slug


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
