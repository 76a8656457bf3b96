"""One trial: the loop of a recipe in a process of its own, resumed where an earlier attempt stopped.

It reports each judgement to the journal, to MLflow and to Ray Tune. It never raises, since Ray would then retry what
would only fail again: an error is recorded as the end of the trial. Ray restarts a trial only if its process is killed.
"""

import io
import logging
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import ray
import torch
from ray import tune

from cluster.jobs import distilling, experts
from cluster.jobs.datasets import shared_context
from cluster.jobs.distilling import Reporter
from cluster.jobs.group import Worker
from cluster.results.runs import Run
from cluster.stopping import MARK_SECONDS, within
from cluster.store import open_store
from cluster.tracking.run import Tracker
from distill import synthetic
from distill.checkpoint import Checkpoint
from distill.context import Context
from distill.cost import memory
from distill.cost.estimate import explain_out_of_memory, is_out_of_memory
from distill.errors import DivergedError, ExpertsMissing, StillhouseError, StopRequested
from distill.evaluate import Score
from distill.loop import Loop
from distill.text import byte_size
from tune.journal import DIVERGED, FAILED, FINISHED, MEMORY, End, Journal, Judgement
from tune.reading import with_values

CHECKPOINT = "checkpoint.safetensors"
log = logging.getLogger("stillhouse")


@dataclass(frozen=True)
class Shared:
    """What all trials of a sweep have in common."""

    sweep_id: str
    name: str
    base: dict
    """The recipe as JSON values, without those that the trial drew."""
    store: str
    tracking: str
    parent: str
    """Id of the sweep's MLflow run."""
    metric: str
    cuda: bool
    cpus: float
    population: bool
    """Trials continue from each other's checkpoints (pbt), so each has its own run in the store."""
    library: "ray.actor.ActorHandle"
    board: "ray.actor.ActorHandle"
    """Asks the trials to save and end."""
    publish: bool = False
    """Each trial that runs to its end publishes its set."""

    def tracked(self, number: int, values: dict) -> dict:
        """Name, parent and tags of a trial's MLflow run (cluster.jobs.distilling.open_tracker), and what it varies."""
        tags = {"stillhouse.sweep": self.sweep_id, "stillhouse.trial": number}
        place = {"experiment": "sweeps", "run_name": f"{self.name} {number}", "key": f"{self.sweep_id} {number}"}
        varied = [path.strip() for key in values for path in key.split(",")]
        return {**place, "parent": self.parent, "tags": tags, "always": varied}

    def dataset(self, recipe: dict) -> ray.ObjectRef:
        """The data of a recipe, shared."""
        (dataset,) = ray.get(self.library.dataset.remote(recipe))
        return dataset

    def config(self, recipe: dict) -> dict:
        """What cluster.jobs.distilling takes to make the context of a trial and to open its tracker."""
        places = {"store": self.store, "tracking": self.tracking}
        return {"recipe": recipe, "dataset": self.dataset(recipe), **places}


def run_trial(config: dict, shared: Shared) -> None:
    """The function trainable: `config` has the trial's `number` and `values`."""
    attempt = Attempt(config["number"], config["values"], shared)
    try:
        end = attempt.run()
    except StopRequested:
        attempt.stopped()
        threading.Event().wait()  # the command ends, and this process with it: Ray Tune would record an end or a fault
    except Exception as error:  # a retry would fail the same way: record it; other trials continue
        end = attempt.failed(error)
    attempt.journal.end(attempt.number, end)
    last = {"number": attempt.number, "status": end.status, "step": end.step, "seconds": end.seconds}
    tune.report({**attempt.last_report, **last, "message": end.message})


class Attempt:
    """One attempt at a trial."""

    def __init__(self, number: int, values: dict, shared: Shared):
        self.number, self.values, self.shared = number, values, shared
        self.journal = Journal(open_store(shared.store), shared.sweep_id)
        self.started = time.monotonic()
        self.last_report: dict = {}
        self.context: Context | None = None
        self.loop: Loop | None = None
        self.tracker: Tracker | None = None
        self.worker: Worker | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def run(self) -> End:
        recipe = with_values(self.shared.base, self.values)
        torch.set_num_threads(recipe.threads or max(1, int(self.shared.cpus)))
        device = torch.device("cuda" if self.shared.cuda and recipe.device != "cpu" else "cpu")
        config = self.shared.config(recipe.model_dump(mode="json"))
        self.context = prepare_trial(config, device)
        run_id = f"{self.shared.sweep_id}-{self.number:05d}" if self.shared.population else self.context.run_id
        config |= {"run_id": run_id, "tracked": self.shared.tracked(self.number, self.values)}
        self.tracker = distilling.open_tracker(self.context, config)
        if refusal := self._too_large():
            return self._ended(MEMORY, refusal)
        run = Run(open_store(self.shared.store), run_id)
        reporter = TrialReporter(run, self)
        self.loop = reporter.loop = Loop(self.context, reporter)
        reporter.metrics.images_per_step = self.loop.objective.work(self.loop.synthetic).images
        self.worker = Worker(self.number, 1, device, self.shared.board)
        reporter.stop = self.worker.stopping
        resume(self.loop, run, reporter)
        reporter.resumed_at = self.loop.done
        self.loop.run()
        if self.last_report.get("step") != self.loop.done:
            reporter.report(self.loop.done, self.loop.selected.score)
        if self.shared.publish and run.result() is None:
            distilling.publish(self.loop, run, self.tracker, reporter.post)
        return self._ended(FINISHED)

    def stopped(self) -> None:
        """Say that the state is saved, as the command is about to end."""
        within(MARK_SECONDS, lambda: self.tracker.finish("KILLED"))
        self.worker.saved(f"trial {self.number} after step {self.loop.done}")

    def failed(self, error: Exception) -> End:
        """The end of a trial that raised an error."""
        step = self.loop.done + 1 if self.loop else 0
        if self.context and is_out_of_memory(error):
            needed = memory.memory_bytes(self.context)
            ray.get(self.shared.library.ran_out.remote(self.number, needed))
            return self._ended(MEMORY, str(explain_out_of_memory(self.context, error)), step, needed)
        if not isinstance(error, StillhouseError):
            log.exception("trial %d", self.number)
        known = isinstance(error, StillhouseError)
        message = str(error) if known else f"{type(error).__name__}: {error}"
        return self._ended(DIVERGED if isinstance(error, DivergedError) else FAILED, message, step)

    def report(self, report: Judgement) -> None:
        """Report a judgement to Ray Tune, which may end the trial here, and tag which trials ran out of memory."""
        self.last_report = {**asdict(report), "validation_accuracy": report.best_accuracy, "number": self.number}
        self._tag_memory()
        last = report.step == self.context.recipe.outer.steps  # run_trial reports it, after its checkpoint is saved
        if last or (report.loss is None and self.shared.metric == "loss"):
            return
        if not self.shared.population:
            tune.report({**self.last_report, "status": "running"})
            return
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / CHECKPOINT).write_bytes(self.loop.checkpoint().encode())
            tune.report({**self.last_report, "status": "running"}, checkpoint=tune.Checkpoint.from_directory(folder))

    def _ended(self, status: str, message: str = "", step: int | None = None, memory_bytes: int = 0) -> End:
        if self.tracker:
            self.tracker.tag({"stillhouse.end": status, "stillhouse.message": message})
            self.tracker.finish("FINISHED" if status == FINISHED else "FAILED")
        step = self.last_report.get("step", 0) if step is None else step
        return End(status, step, message, self.seconds, memory_bytes)

    def _too_large(self) -> str:
        """Why not to start: a trial with an estimate no larger than this one's ran out of memory. Empty otherwise."""
        notes = ray.get(self.shared.library.memory_notes.remote())
        if not notes:
            return ""
        own, (number, least) = memory.memory_bytes(self.context), min(notes.items(), key=lambda item: item[1])
        if own < least:
            return ""
        sizes = byte_size(own), byte_size(least)
        return f"not started: its estimate is {sizes[0]}, and trial {number} with {sizes[1]} ran out of memory"

    def _tag_memory(self) -> None:
        notes = ray.get(self.shared.library.memory_notes.remote())
        if notes and self.tracker:
            text = ", ".join(
                f"trial {number} (estimate {byte_size(needed)})" for number, needed in sorted(notes.items())
            )
            self.tracker.tag({"stillhouse.memory": f"ran out of memory meanwhile: {text}"})


class TrialReporter(Reporter):
    """Reports the progress of a trial's loop to MLflow, the store, the journal and Ray Tune."""

    loop: Loop

    def __init__(self, run: Run, attempt: Attempt):
        super().__init__(run, attempt.tracker, post=lambda event: None)
        self.attempt = attempt
        self.loss: float | None = None
        self.shown = ""
        self.resumed_at = 0

    def step(self, step: int, metrics: dict[str, float]) -> None:
        super().step(step, metrics)
        self.loss = metrics["loss"]

    def judged(self, step: int, score: Score, best: bool) -> None:
        super().judged(step, score, best)
        self.report(step, score.mean)

    def save(self, checkpoint: Checkpoint) -> None:
        super().save(replace(checkpoint, run_id=self.run.run_id))

    def report(self, step: int, accuracy: float) -> None:
        """Record a judgement and report it."""
        best, attempt = self.loop.selected, self.attempt
        report = Judgement(
            step=step,
            accuracy=accuracy,
            best_step=best.step,
            best_accuracy=best.score,
            loss=self.loss,
            budget_floats=self.loop.synthetic.budget().total,
            seconds=attempt.seconds,
            run_id=self.run.run_id,
            values=attempt.values,
        )
        self.tracker.log(step, {"best_accuracy": best.score})
        if step != self.resumed_at:  # of that step there is a checkpoint already, perhaps of an older version
            self.save(self.loop.checkpoint())  # a reported step is never computed again
        attempt.journal.report(attempt.number, report, self._picture(report))
        attempt.report(report)

    def _picture(self, report: Judgement) -> bytes | None:
        """PNG of the best set, unless it is recorded already."""
        if self.shown == report.picture:
            return None
        self.shown, context = report.picture, self.loop.context
        best = synthetic.build(context)
        best.load_learned_state(self.loop.selected.state)
        buffer = io.BytesIO()
        best.pictures(context.data.preprocess, context.data.classes)["synthetic"].save(buffer, "PNG")
        return buffer.getvalue()


def prepare_trial(config: dict, device: torch.device) -> Context:
    """A trial's context; trains experts that could not be known before, e.g. if experts.* is searched over a range."""
    try:
        return distilling.context_with_experts(config, device)
    except ExpertsMissing:
        context = shared_context(config, device)
        if context.recipe.objective.expert_set:
            raise
    experts.train_here(experts.needed_part(context), config["store"])
    return distilling.context_with_experts(config, device)


def resume(loop: Loop, run: Run, reporter: TrialReporter) -> None:
    """Resume from the checkpoint that Ray Tune gives (with pbt maybe another trial's), else from the run's own."""
    given = tune.get_checkpoint()
    if given is None:
        distilling.resume(loop, run, reporter)
        return
    with given.as_directory() as folder:
        checkpoint = Checkpoint.decode((Path(folder) / CHECKPOINT).read_bytes(), str(folder))
    loop.resume(checkpoint)
    run.store.delete(f"{run.folder}/checkpoints", dry_run=False)  # from before the trial took over another
    reporter.save(checkpoint)
