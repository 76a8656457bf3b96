"""Distilling: the loop in Ray Train workers, tracked in MLflow, checkpointed in the store, published at the end.

stillhouse distill digits
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import ray
import torch
import torch.distributed as dist
from PIL import Image

from cluster.jobs import experts, group
from cluster.results.runs import Run
from cluster.store import open_store
from cluster.tracking import registry
from cluster.tracking.run import Tracker
from distill import context as contexts
from distill.checkpoint import Checkpoint
from distill.context import Context
from distill.cost.estimate import explain_out_of_memory, is_out_of_memory
from distill.evaluate import Score
from distill.evaluate.budget import per_class
from distill.loop import Loop, Watcher
from distill.published import write
from distill.recipe import Recipe


def distill(context: Context, store_url: str, tracking_uri: str, on_event: group.Event) -> dict:
    """Run a recipe to its end, from where it was stopped, and return its result. Needs a Ray session."""
    recipe = context.recipe
    run = Run(open_store(store_url), context.run_id)
    config = {"recipe": recipe.model_dump(mode="json"), "store": store_url, "tracking": tracking_uri}
    config["ray_storage"] = group.scratch_url(store_url)
    on_event({"kind": "plan", "steps": recipe.outer.steps})
    group.run(_work, config, recipe, recipe.outer.workers, on_event)
    return run.result()


def finished(context: Context, store_url: str) -> dict | None:
    """The result of a recipe's run if it has ended, else None."""
    return Run(open_store(store_url), context.run_id).result()


def publish_run(recipe: Recipe, config: dict, on_event: group.Event) -> dict:
    """Bring a run in the store to its end, mostly its publication, in one task; returns its result.

    `config` is that of distill(), with what `prepare` and `open_tracker` take besides.
    """
    group.run_one(_work, config, recipe, on_event)
    return Run(open_store(config["store"]), config["run_id"]).result()


class Reporter(Watcher):
    """Sends what the loop does to the tracker, the store and the driver."""

    def __init__(self, run: Run, tracker: Tracker | None, post: Callable, classes: tuple[str, ...]):
        self.run, self.tracker, self.post, self.classes = run, tracker, post, classes
        self.saved = "none"
        self.recipe: dict | None = None
        self.accuracy: float | None = None

    def step(self, step: int, metrics: dict[str, float]) -> None:
        if self.tracker:
            self.tracker.log(step, metrics)
            self.post("step", step=step, accuracy=self.accuracy, **metrics)

    def judged(self, step: int, score: Score, best: bool) -> None:
        self.accuracy = score.mean
        self.tracker.log(step, {"selection_accuracy": score.mean, "selection_accuracy_std": score.std})
        self.post("judged", step=step, accuracy=score.mean, best=best)

    def picture(self, step: int, pictures: dict[str, Image.Image]) -> None:
        for name, image in pictures.items():
            self.tracker.picture(step, name, image)

    def save(self, checkpoint: Checkpoint) -> None:
        self.tracker.flush()
        if self.recipe:
            self.run.describe(self.recipe)
            self.recipe = None
        self.saved = self.run.save(checkpoint)

    def last_saved(self) -> str:
        return self.saved


def prepare(config: dict, device: torch.device) -> Context:
    """The context of `config["recipe"]`: data, network, experts that it needs, or looks through where there are some.

    `config["dataset"]` may be Ray's reference to the loaded data.
    """
    context = unread(config, device)
    use = context.recipe.expert_use
    if use == "required":
        return context.with_experts(experts.open_reader(context, config["store"]))
    if use == "preferred" and (reader := experts.find_reader(context, config["store"])):
        return context.with_experts(reader)
    return context


def unread(config: dict, device: torch.device) -> Context:
    """The same without experts."""
    dataset = ray.get(config["dataset"]) if "dataset" in config else None
    return contexts.prepare(Recipe.model_validate(config["recipe"]), device=device, dataset=dataset)


def resume(loop: Loop, run: Run, reporter: Reporter) -> None:
    """Take up the run's last checkpoint, if there is one; the recipe is kept with the next."""
    reporter.recipe = loop.context.recipe.model_dump(mode="json")
    if checkpoint := run.latest():
        loop.resume(checkpoint)
        reporter.saved = run.checkpoints()[-1]
        reporter.post("resumed", step=loop.done)


def _work(worker: group.Worker, config: dict) -> None:
    """One worker of the group; rank 0 also judges, tracks, saves and publishes."""
    context = prepare(config, worker.device)
    run = Run(open_store(config["store"]), config.get("run_id") or context.run_id)
    tracker = open_tracker(context, config) if worker.rank == 0 else None
    reporter = Reporter(run, tracker, worker.post, context.data.classes)
    reduce = dist.all_reduce if worker.world > 1 else (lambda tensor: None)
    loop = Loop(context, reporter, worker.rank, worker.world, reduce)
    resume(loop, run, reporter)
    try:
        loop.run()
    except Exception as error:
        if tracker:
            tracker.finish("FAILED")
        if is_out_of_memory(error):
            raise explain_out_of_memory(context, error) from error
        raise
    finally:
        if context.experts:
            context.experts.close()
    if tracker:
        _publish(loop, run, tracker, worker)


def open_tracker(context: Context, config: dict) -> Tracker:
    """The MLflow run of a distillation in `config["tracking"]`.

    `config["tracked"]` may say another experiment, name and key than a run of its own has, its parent and more tags.
    """
    recipe = context.recipe
    os.environ["MLFLOW_TRACKING_URI"] = config["tracking"]  # else saving a model makes an empty database here
    tags = {"paper": recipe.paper, "objective": recipe.objective.kind, "synthetic": recipe.synthetic.kind}
    place = {"experiment": "distill", "run_name": context.run_id, "key": context.run_id, "parent": None, "tags": {}}
    place |= config.get("tracked", {})
    place["tags"] = tags | place["tags"]
    return Tracker.open(config["tracking"], params=recipe.model_dump(mode="json"), **place)


def _publish(loop: Loop, run: Run, tracker: Tracker, worker: group.Worker) -> None:
    """Judge the selected set on the test part, then publish it: store, MLflow artifacts, registry version."""
    context, e = loop.context, loop.context.recipe.evaluation
    loop.synthetic.load_learned_state(loop.best.state)
    lr = loop.best.student_lr or e.lr
    worker.post("stage", text="judging the selected set on the test images")
    test = loop.judge.score(loop.synthetic, lr, context.data.test, e.networks, "test")
    result = result_of(context, loop, test) | {"run_id": run.run_id}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "published"
        files = write(loop.published(), folder)
        result["sha256"] = registry.sha256(files[-1])
        tracker.log(loop.best.step, {"test_accuracy": test.mean, "test_accuracy_std": test.std})
        tags = {key: str(result[key]) for key in TAGS}
        result["version"] = registry.publish(tracker, context.recipe.name, folder, tags)
        result["model"] = context.recipe.name
        run.publish(files, result)
    tracker.finish()


TAGS = (
    "selection_accuracy", "selection", "test_mean", "test_std", "test_n", "protocol", "network", "budget_ipc", "run_id"
)  # fmt: skip


def result_of(context: Context, loop: Loop, test: Score) -> dict:
    """What a finished run says of itself; accuracies as fractions."""
    recipe, budget = context.recipe, loop.synthetic.budget()
    return {
        "run_id": context.run_id,
        "step": loop.best.step,
        "selection": recipe.evaluation.selection,
        "selection_accuracy": loop.best.score,
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
        "student_lr": loop.best.student_lr,
    }
