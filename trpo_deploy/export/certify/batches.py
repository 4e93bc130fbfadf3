"""Batches of raw observations and states, by the names of an ONNX file's inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from trpo_deploy.spec.policy_spec import Inputs, TensorSpec
from trpo_deploy.spec.spaces import Array

BATCH_SIZES = (1, 7, 256)
"""Sizes of the batches in which a file is compared."""


def size_of(batch: Inputs) -> int:
    """Number of rows."""
    return len(next(iter(batch.values())))


def take(batch: Inputs, rows: Array | slice | list[int]) -> Inputs:
    """Select rows."""
    return {name: array[rows] for name, array in batch.items()}


def concatenate(batches: Sequence[Inputs]) -> Inputs:
    """Concatenate batches along their rows."""
    return {name: np.concatenate([each[name] for each in batches]) for name in batches[0]}


def is_finite(batch: Inputs) -> Array:
    """Whether each row is free of NaN and infinities, ``(batch,)``."""
    flat = [array.reshape(len(array), -1) for array in batch.values()]
    rows: Array = np.logical_and.reduce([np.isfinite(array).all(axis=1) for array in flat])
    return rows


def as_float32(batch: Inputs) -> Inputs:
    """Convert floating-point arrays to float32, as an ONNX file receives them."""
    with np.errstate(over="ignore"):
        return {
            name: array.astype(np.float32) if array.dtype.kind == "f" else array
            for name, array in batch.items()
        }


def as_inputs(batch: Inputs, inputs: Iterable[TensorSpec]) -> Inputs:
    """Convert a batch to the dtypes of a file's inputs."""
    with np.errstate(over="ignore"):  # float64 observations may exceed float32
        return {each.key: batch[each.key].astype(each.dtype) for each in inputs}


def one_ulp_off(batch: Inputs, rng: np.random.Generator) -> Inputs:
    """Move each floating-point number to one of its two float32 neighbours, at random."""
    noisy = {}
    for name, array in as_float32(batch).items():
        noisy[name] = array
        if array.dtype.kind == "f":
            direction = np.where(rng.random(array.shape) < 0.5, -np.inf, np.inf)
            noisy[name] = np.nextafter(array, direction.astype(np.float32))
    return noisy
