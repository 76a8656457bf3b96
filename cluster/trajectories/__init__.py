"""Expert trajectories in a store: written once by many workers, read a snapshot at a time.

experts = TrajectorySet(store, "digits-convnet3")
experts.write_expert(spec, record)        # by any worker, in any order
experts.seal(spec, count=100)             # the set is there from now on
reader = experts.open(count=100)
theta = reader.snapshot(expert=7, epoch=12)  # (p,) one ranged read
"""

from cluster.trajectories.format import ExpertRecord, SetSpec
from cluster.trajectories.reader import Reader
from cluster.trajectories.sets import TrajectorySet, list_sets

__all__ = ["ExpertRecord", "Reader", "SetSpec", "TrajectorySet", "list_sets"]
