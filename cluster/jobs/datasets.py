"""The data of a job: read once by its driver, then lent to its workers through Ray's object store.

A dataset is there once per node; the tensors of all workers on that node are views of the same memory.
"""

import warnings

import numpy as np
import ray
import torch
from ray.util import serialization

from distill import context as contexts
from distill.context import Context
from distill.data import Dataset
from distill.recipe import Recipe


def share(dataset: Dataset) -> ray.ObjectRef:
    """Put a dataset on the CPU into Ray's object store, such that reading it copies nothing."""
    serialization.register_serializer(torch.Tensor, serializer=_to_numpy, deserializer=_from_numpy)
    try:
        return ray.put(dataset)
    finally:
        serialization.deregister_serializer(torch.Tensor)


def shared_context(config: dict, device: torch.device) -> Context:
    """The context of `config["recipe"]`, without experts, on `config["dataset"]`: the data or what share() gave."""
    dataset = config["dataset"]
    dataset = ray.get(dataset) if isinstance(dataset, ray.ObjectRef) else dataset
    return contexts.prepare(Recipe.model_validate(config["recipe"]), device=device, dataset=dataset)


def _to_numpy(x: torch.Tensor) -> np.ndarray:
    return x.contiguous().numpy()


def _from_numpy(x: np.ndarray) -> torch.Tensor:
    """A tensor over the same, read-only memory; nothing writes into a dataset."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(x)
