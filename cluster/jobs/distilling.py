"""Distilling: the loop in Ray workers, tracked in MLflow, checkpointed in the store, published at the end.

stillhouse distill digits
"""

import json
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import ray
import torch
from PIL import Image

from cluster.jobs import experts, group
from cluster.jobs.datasets import shared_context
from cluster.jobs.events import DistillingCutShort, DistillingResumed, DistillingStarted, Event, Note, StepDone
from cluster.jobs.metrics import JobMetrics
from cluster.jobs.registering import register
from cluster.jobs.together import PeerLost, together
from cluster.results import comparing
from cluster.results.runs import Run
from cluster.results.status import PLACE, STEPS
from cluster.stopping import MARK_SECONDS, Stopped, within
from cluster.store import open_store
from cluster.tracking import registry
from cluster.tracking.run import Tracker, dataset_input, short_key
from distill.checkpoint import Checkpoint
from distill.context import Context
from distill.cost.estimate import explain_out_of_memory, is_out_of_memory
from distill.errors import MissingError, RecipeError, StopRequested
from distill.evaluate import Score
from distill.evaluate.budget import per_class
from distill.loop import Loop, Watcher
from distill.published import Published, write
from distill.recipe import Recipe, chosen, portable
from distill.verdict import verdict


def distill(
    recipe: Recipe,
    run: Run,
    dataset: ray.ObjectRef,
    tracking_uri: str,
    on_event: group.OnEvent,
    workers: int | None = None,
    deadline: float | None = None,
    before: str | None = None,
    **more,
) -> dict:
    """Bring a run to its end, from where it was stopped, and return its result. Needs a Ray session.

    `dataset` is shared by share(); `workers` are by default as many as the recipe says; `before` is the run that it
    starts from, if workers need not find that out; `more` is what open_tracker() takes besides. With a `deadline`
    (time.monotonic()) the run may end early: the result is then that of the run with as many steps as were done, and
    this one's checkpoint stays, to be continued.
    """
    config = {
        "recipe": recipe.model_dump(mode="json"),
        "run_id": run.run_id,
        "dataset": dataset,
        "store": run.store.url,
        "tracking": tracking_uri,
        "before": before,
        **more,
    }
    ended = run

    def watch(event: Event) -> None:
        nonlocal ended
        if isinstance(event, DistillingCutShort):
            ended = Run(run.store, event.run_id)
        on_event(event)

    on_event(DistillingStarted(recipe.outer.steps))
    try:
        group.run(_work, config, recipe, workers or recipe.outer.worker_range, watch, deadline=deadline)
    except Stopped as stop:
        if not stop.saved:  # else the worker has marked the run
            place = config.get("tracked", {"experiment": "distill", "key": run.run_id})
            within(MARK_SECONDS, lambda: mark_killed(tracking_uri, place["experiment"], place["key"]))
            kept = within(MARK_SECONDS, run.checkpoints)
            stop.saved = f"last checkpoint: {kept[-1]}" if kept else "before the first checkpoint"
        raise
    return ended.result()


def mark_killed(tracking_uri: str, experiment: str, key: str) -> None:
    """Say in MLflow that a run was stopped; from a process that did not write to it."""
    if tracker := Tracker.find(tracking_uri, experiment, key):
        tracker.finish("KILLED")


class Reporter(Watcher):
    """Sends what the loop does to the tracker, the store and the driver."""

    def __init__(self, run: Run, tracker: Tracker | None, post: Callable[[Event], None]):
        self.run, self.tracker, self.post = run, tracker, post
        self.stop: Callable[[], bool] = lambda: False
        self.saved = "none"
        self.recipe: dict | None = None
        self.accuracy: float | None = None
        self.metrics = JobMetrics(run.run_id)
        self.judged_at: int | None = None

    def step(self, step: int, metrics: dict[str, float]) -> None:
        if self.tracker:
            self.tracker.log(step, metrics)
            self.post(StepDone(step, metrics, self.accuracy, self.judged_at))
        self.metrics.step(first=self.tracker is not None)

    def judged(self, step: int, score: Score, best: bool) -> None:
        self.accuracy, self.judged_at = score.mean, step
        self.metrics.judged(score.mean)
        self.tracker.log(step, {"selection_accuracy": score.mean, "selection_accuracy_std": score.std})

    def measured(self, step: int, measures: dict[str, float]) -> None:
        if measures:
            self.tracker.log(step, measures)

    def picture(self, step: int, pictures: dict[str, Image.Image]) -> None:
        for name, image in pictures.items():
            self.tracker.picture(step, name, image)

    def save(self, checkpoint: Checkpoint) -> None:
        self.tracker.flush()
        if self.recipe:
            self.run.describe(self.recipe)
            self.recipe = None
        self.saved = self.run.save(checkpoint)
        self.metrics.saved()

    def stopping(self) -> bool:
        return self.stop()

    def last_saved(self) -> str:
        return self.saved


def context_with_experts(config: dict, device: torch.device) -> Context:
    """The shared context with the experts that the recipe needs, or, if there are any, those it can make use of, and
    with what the run before it published."""
    context = shared_context(config, device)
    if context.recipe.before:
        context = context.after(published_before(config.get("before") or context.before_id, config["store"]))
    use = context.recipe.expert_use
    if use == "required":
        return context.with_experts(experts.open_reader(context, config["store"]))
    if use == "preferred" and (reader := experts.find_reader(context, config["store"])):
        return context.with_experts(reader)
    return context


def published_before(run_id: str, store_url: str) -> Published:
    """What the run published that must have ended before this one. Raises RecipeError if the store does not hold it."""
    try:
        return Run(open_store(store_url), run_id).published()
    except MissingError as error:
        raise RecipeError(
            f"this run starts from what {run_id} publishes, which has not ended ({error}): stillhouse distill brings "
            "both to their end"
        ) from None


def resume(loop: Loop, run: Run, reporter: Reporter) -> None:
    """Continue from the last checkpoint of the run, or of one that differs from it in taking fewer steps.

    The recipe is kept with the next checkpoint.
    """
    reporter.recipe = loop.context.recipe.model_dump(mode="json")
    source = run
    if not run.checkpoints() and run.run_id == loop.context.run_id:
        source = run.longest_shorter() or run
    if checkpoint := source.latest():
        loop.resume(checkpoint)
        reporter.saved = f"{source.folder}, step {checkpoint.step}"
        reporter.post(DistillingResumed(loop.done, "" if source is run else source.run_id))
        if reporter.tracker and source is not run:
            reporter.tracker.tag({"stillhouse.continues": source.run_id})
            reporter.tracker.log(loop.best.step, {"selection_accuracy": loop.best.score})


def _work(worker: group.Worker, config: dict) -> None:
    """One worker of the group; rank 0 also judges, tracks, saves and publishes."""
    context = context_with_experts(config, worker.device)
    run = Run(open_store(config["store"]), config["run_id"])
    tracker = open_tracker(context, config) if worker.rank == 0 else None
    if tracker:
        tracker.tag(
            {
                PLACE: f"{socket.gethostname()}: {worker.world} x {worker.device.type}",
                STEPS: str(context.recipe.outer.steps),
            }
        )
    reporter = Reporter(run, tracker, worker.post)
    reporter.stop = worker.stopping
    loop = Loop(context, reporter, worker.rank, worker.world, *together(worker.world), worker.deadline())
    reporter.metrics.images_per_step = loop.objective.work(loop.synthetic).images
    try:
        resume(loop, run, reporter)
        loop.run()
    except StopRequested:
        if not group.preempted.is_set():  # else Ray starts this worker again
            within(MARK_SECONDS, lambda: tracker.finish("KILLED"))
        worker.saved(f"with a checkpoint after step {loop.done}")
        raise
    except Exception as error:
        if tracker and not isinstance(error, PeerLost):  # after which the group starts again
            tracker.fail()
        if is_out_of_memory(error):
            raise explain_out_of_memory(context, error) from error
        raise
    finally:
        if context.experts:
            context.experts.close()
    if tracker and loop.done < context.recipe.outer.steps:
        run = Run(run.store, loop.context.run_id)
        run.describe(loop.context.recipe.model_dump(mode="json"))
        tracker.tag({short_key(run.run_id): run.run_id})
        worker.post(DistillingCutShort(loop.done, run.run_id))
    if tracker and not run.result():
        publish(loop, run, tracker, worker.post)


def open_tracker(context: Context, config: dict) -> Tracker:
    """The MLflow run of a distillation in `config["tracking"]`.

    Its parameters are the settings that are not defaults; the whole recipe is a file of the run. `config["tracked"]`
    may say another experiment, name and key than a run of its own has, its parent, more tags, and under `always`
    settings that are parameters even if they are defaults.
    """
    recipe, tracked = context.recipe, dict(config.get("tracked", {}))
    os.environ["MLFLOW_TRACKING_URI"] = config["tracking"]  # else saving a model makes an empty database here
    tags = {"paper": recipe.paper, "objective": recipe.objective.kind, "synthetic": recipe.synthetic.kind}
    place = {"experiment": "distill", "run_name": config["run_id"], "key": config["run_id"], "parent": None, "tags": {}}
    params = portable(chosen(recipe, tuple(tracked.pop("always", ()))))
    place |= tracked
    place["tags"] = tags | place["tags"]
    tracker = Tracker.open(config["tracking"], params=params, inputs=_inputs(context), **place)
    tracker.text("recipe.json", json.dumps(portable(recipe.model_dump(mode="json")), indent=2))
    return tracker


def _inputs(context: Context) -> list:
    """The data of a run as MLflow shows them: what is trained on, what chooses the step, what judges."""
    data, name = context.data, comparing.dataset_name(context.recipe.dataset.model_dump(mode="json"))
    shape = "x".join(map(str, data.shape))
    parts = {"training": (data.train, "train"), "validation": (data.validation, "train"), "test": (data.test, "test")}
    return [
        dataset_input(
            f"{name} {part}",
            data.parts.get(raw, data.fingerprint),
            part,
            {"images": len(split), "shape": shape, "classes": len(data.classes), "sha256": data.parts.get(raw, "")},
        )
        for part, (split, raw) in parts.items()
    ]


def publish(loop: Loop, run: Run, tracker: Tracker, post: Callable[[Event], None]) -> None:
    """Judge the selected set on the test part, then publish it: store, MLflow artifacts, registry version.

    What the accuracy and the losses of all outer steps show to be wrong is a part of the result.
    """
    context, e = loop.context, loop.context.recipe.evaluation
    loop.synthetic.load_learned_state(loop.selected.state)
    lr = loop.selected.student_lr or e.lr
    post(Note("judging the selected set on the test images"))
    test = loop.judge.score(loop.synthetic, lr, context.data.test, e.networks, "test", until=loop.at_last)
    result = result_of(context, loop, test) | {"run_id": run.run_id}
    losses = list(tracker.history("loss").values())
    if said := verdict(context.recipe, losses, loop.selected.step, test.mean, context.classes):
        result["warnings"] = said
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "published"
        files = write(loop.published(), folder)
        result["sha256"] = registry.sha256(files[-1])
        tracker.log(loop.selected.step, {"test_accuracy": test.mean, "test_accuracy_std": test.std})
        result = register(context, result, folder, tracker)
        run.publish(files, result)
    tracker.finish()


def publish_again(context: Context, run: Run, tracking_uri: str) -> dict:
    """Register the set of a run that has ended, whose version was deleted from the registry; returns the new result."""
    tracker = open_tracker(context, {"tracking": tracking_uri, "run_id": run.run_id})
    with tempfile.TemporaryDirectory() as scratch:
        result = register(context, run.result(), run.fetch_published(Path(scratch)), tracker)
    run.replace_result(result)
    tracker.finish()
    return result


def result_of(context: Context, loop: Loop, test: Score) -> dict:
    """What a finished run says of itself; accuracies as fractions."""
    recipe, budget = context.recipe, loop.synthetic.budget()
    return {
        "run_id": context.run_id,
        "step": loop.selected.step,
        "selection": recipe.evaluation.selection,
        "selection_accuracy": loop.selected.score,
        "test_mean": test.mean,
        "test_std": test.std,
        "test_n": test.n,
        "protocol": recipe.evaluation.label,
        "network": recipe.network.label,
        "budget_floats": budget.total,
        "budget_bytes": budget.bytes,
        "budget_ipc": per_class(context, budget.total),
        "budget_bits_per_class": budget.bits_per_class(context.classes),
        "shared_floats": sum(budget.shared.values()),
        "student_lr": loop.selected.student_lr,
    }
