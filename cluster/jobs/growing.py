"""One process trains experts of a set: it resumes from their saved states, saves new ones, and writes finished experts.

Grower(context, TrajectorySet(store, name), spec).grow(7)
"""

import json
from collections.abc import Callable

from pydantic import TypeAdapter, ValidationError

from cluster.jobs.events import Event, ExpertEpoch, ExpertResumed, Note
from cluster.jobs.metrics import JobMetrics
from cluster.jobs.partial import Course, SavedStates
from cluster.store.base import Store
from cluster.trajectories import SetSpec, TrajectorySet
from distill import train
from distill.accuracy import accuracy, probe
from distill.context import Context
from distill.errors import ConflictError, MissingError, StopRequested, StoreError


class Grower:
    """Trains groups of experts one after another; the training step is made once.

    `post` gets an event for every epoch, for continuing from a saved state and for states that cannot be used.
    """

    def __init__(
        self,
        context: Context,
        experts: TrajectorySet,
        spec: SetSpec,
        post: Callable[[Event], None] | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ):
        self.context, self.experts, self.spec = context, experts, spec
        self.post = post or (lambda event: None)
        self.stopping = stopping
        self.metrics = JobMetrics(experts.name)
        self.step = train.expert_step(context, choices(context, experts.store, experts.name))

    def grow(self, first: int) -> None:
        """Train experts first .. first + experts.together - 1 to the end and write them.

        Raises StopRequested once `stopping` returns true, after an epoch whose state is saved.
        """
        o = self.context.recipe.experts
        group = tuple(range(first, first + o.together))
        states = SavedStates(self.experts.store, self.experts.name, group, lambda text: self.post(Note(text)))
        course = self._start(states, group)
        for now in train.epochs(self.context, self.step, course.training):
            course.training = now
            self._take(course)
            self.metrics.epoch(len(group), len(self.context.data.train))
            stopping = now.epoch < o.epochs and self.stopping()
            if stopping or (o.state_every and now.epoch % o.state_every == 0 and now.epoch < o.epochs):
                states.save(course)
            if stopping:
                raise StopRequested(f"expert {first} after epoch {now.epoch}")
        for record in course.records():
            self.experts.write_expert(self.spec, record)
        states.clear()

    def _start(self, states: SavedStates, group: tuple[int, ...]) -> Course:
        """The last saved state of these experts, or fresh ones."""
        if course := states.latest(self.context.device):
            for expert in group:
                self.post(ExpertResumed(expert, course.training.epoch))
            return course
        course = Course(train.begin(self.context, self.step, group), self.context.recipe.experts.seed)
        self._take(course)
        return course

    def _take(self, course: Course) -> None:
        """Measure an epoch, tell of it, and keep it if it is one of those that are saved."""
        c, t = self.context, course.training
        known = probe(c.data.train)
        seen = known.x.split(c.recipe.experts.batch)
        on_train = [accuracy(self.step, theta, known, seen=seen) for theta in t.theta]
        on_test = [accuracy(self.step, theta, c.data.test, seen=seen) for theta in t.theta]
        if t.epoch in self.spec.epochs:
            course.snapshots.append(t.theta.cpu())
            course.train_accuracy.append(on_train)
            course.test_accuracy.append(on_test)
        for expert, train_accuracy, test_accuracy in zip(t.experts, on_train, on_test, strict=True):
            self.post(ExpertEpoch(expert, t.epoch, train_accuracy, test_accuracy))


def choices(context: Context, store: Store, name: str) -> train.Choices:
    """What `auto` is taken for in a set: what the worker that began it wrote to `experts/<name>/choices.json`.

    So all experts of a set are of one kind, also when it grows on another machine. Raises StoreError if it is damaged.
    """
    key = f"experts/{name}/choices.json"
    try:
        kept = store.read(key)
    except MissingError:
        ours = json.dumps(TypeAdapter(train.Choices).dump_python(train.choose(context)), sort_keys=True).encode()
        try:
            store.create(key, ours)
        except ConflictError:
            pass  # a worker on another kind of machine was first
        kept = store.read(key)
    try:
        return TypeAdapter(train.Choices).validate_json(kept, strict=True)
    except ValidationError:
        raise StoreError(
            f"{store.url}/{key} is damaged; `stillhouse trajectories delete {name}` and train again"
        ) from None
