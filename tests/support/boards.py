"""A job's board without Ray, for workers that are functions of the test process."""

import ray

from cluster.jobs.board import Board


class LocalBoard:
    """A board in this process; what passes through it is pickled as Ray does. Patch `group.ray.get` to the identity."""

    def __init__(self):
        self.board = Board.__ray_metadata__.modified_class()

    def __getattr__(self, name: str):
        method = getattr(self.board, name)

        class Remote:
            @staticmethod
            def remote(*arguments):
                copied = ray.cloudpickle.loads(ray.cloudpickle.dumps(arguments))
                return method(*copied)

        return Remote
