"""Observations that a policy sees, and those that it seldom sees and must not get wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from trpo_deploy.export.policy.network import (
    ActorNetwork,
    ChannelsFirst,
    Normalizer,
    ObservationInput,
)
from trpo_deploy.spec.policy_spec import Inputs, TensorSpec
from trpo_deploy.spec.spaces import Array, BoxSpace, DiscreteSpace, MultiDiscreteSpace, Space

ROWS = 1 + 7 + 256
"""Enough for the three sizes of batches in which a file is held against the policy."""
_MOST_DIMENSIONS = 256  # of which each is put far out by itself
_MOST_NUMBERS = 2**17  # of all observations with one dimension far out
_MOST_VALUES = 4096  # of a Discrete, each of which is tried
_WIDE = 1e3  # bounds further apart say nothing of what an environment gives


def size_of(batch: Inputs) -> int:
    """Rows of a batch."""
    return len(next(iter(batch.values())))


def take(batch: Inputs, rows: Array | slice) -> Inputs:
    """Some rows of a batch."""
    return {name: array[rows] for name, array in batch.items()}


def concatenate(batches: Sequence[Inputs]) -> Inputs:
    """All rows of some batches."""
    return {name: np.concatenate([each[name] for each in batches]) for name in batches[0]}


def is_finite(batch: Inputs) -> Array:
    """The rows without NaN and infinities, ``(batch,)``."""
    flat = [array.reshape(len(array), -1) for array in batch.values()]
    rows: Array = np.logical_and.reduce([np.isfinite(array).all(axis=1) for array in flat])
    return rows


def ordinary_observations(actor: ActorNetwork, rng: np.random.Generator, rows: int) -> Inputs:
    """Raw observations and states of the size that the policy was trained on."""
    batch = {}
    for each in actor.inputs:
        frame, earlier = _scales(each)
        batch[each.name] = _ordinary(each.space, frame, rng, rows)
        if each.frame_stack is not None:
            state = each.frame_stack.state.input
            batch[state.name] = _ordinary_state(each, state, earlier, rng, rows)
    return batch


def edge_observations(actor: ActorNetwork, rng: np.random.Generator) -> Inputs:
    """Raw observations at the edges of their spaces and of the normaliser.

    Bounds, infinities where the space has them, zeros, denormals, both sides of the
    normaliser's clip, one dimension at a time far out, every value of a discrete number. The
    other keys of an observation, and earlier frames, are ordinary.
    """
    parts = []
    for each in actor.inputs:
        edges = np.stack(list(_edges(each)))
        others = ordinary_observations(actor, rng, len(edges))
        parts.append({**others, each.name: edges.astype(others[each.name].dtype)})
        if each.frame_stack is not None:
            state = each.frame_stack.state
            start = {**others, state.input.name: state.zeros(len(edges))}
            parts.append(start)
    return concatenate(parts)


# --- what is ordinary -----------------------------------------------------------------------

_Scale = tuple[Array, Array]
"""Mean and standard deviation, of the observation's shape."""


def _scales(each: ObservationInput) -> tuple[_Scale | None, _Scale | None]:
    """What the normaliser knows of the present frame and of the earlier ones."""
    normalizer, stack = each.normalizer, each.frame_stack
    if normalizer is None:
        return None, None
    if stack is None or each.steps.index(normalizer) < each.steps.index(stack):
        earlier = None
        if stack is not None:
            shape = stack.state.input.shape
            earlier = np.zeros(shape), np.ones(shape)  # frames are normalised before
        return _in_frame_layout(each, normalizer), earlier
    mean, std = _in_frame_layout(each, normalizer)
    axis = stack.axis - 1 if stack.axis > 0 else -1
    cut = stack.state.input.shape[axis]
    (mean_before, mean_now), (std_before, std_now) = (
        np.split(values, [cut], axis=axis) for values in (mean, std)
    )
    return (mean_now, std_now), (mean_before, std_before)


def _in_frame_layout(each: ObservationInput, normalizer: Normalizer) -> _Scale:
    before = each.steps[: each.steps.index(normalizer)]
    if any(isinstance(step, ChannelsFirst) for step in before):
        return np.moveaxis(normalizer.mean, 0, -1), np.moveaxis(normalizer.std, 0, -1)
    return normalizer.mean, normalizer.std


def _ordinary(space: Space, scale: _Scale | None, rng: np.random.Generator, rows: int) -> Array:
    if not isinstance(space, BoxSpace):
        return np.stack([space.sample(rng) for _ in range(rows)])
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    if scale is not None:
        values = scale[0] + 2.0 * scale[1] * rng.normal(size=(rows, *space.shape))
    else:
        factor = rng.choice([0.3, 1.0, 3.0], size=(rows, *(1 for _ in space.shape)))
        values = factor * rng.normal(size=(rows, *space.shape))
        with np.errstate(over="ignore"):
            narrow = high - low < _WIDE
        uniform = rng.uniform(
            np.where(narrow, low, 0), np.where(narrow, high, 1), size=values.shape
        )
        values = np.where(narrow, uniform, values)
    values = np.clip(values, low, high)
    whole = space.low.dtype.kind != "f"
    return np.asarray((np.round(values) if whole else values).astype(space.low.dtype))


def _ordinary_state(
    each: ObservationInput,
    state: TensorSpec,
    scale: _Scale | None,
    rng: np.random.Generator,
    rows: int,
) -> Array:
    if scale is not None:
        values = scale[0] + 2.0 * scale[1] * rng.normal(size=(rows, *state.shape))
        return np.asarray(values.astype(state.dtype))
    assert each.frame_stack is not None
    frames = [_ordinary(each.space, None, rng, rows) for _ in range(each.frame_stack.n_stack - 1)]
    return np.concatenate(frames, axis=each.frame_stack.axis).astype(state.dtype)


# --- edges ----------------------------------------------------------------------------------


def _edges(each: ObservationInput) -> Iterator[Array]:
    space = each.space
    if isinstance(space, BoxSpace):
        rows = _box_edges(each, space)
        yield from (np.clip(row, space.low, space.high) for row in rows)
    elif isinstance(space, DiscreteSpace):
        values = np.unique(np.linspace(0, space.n - 1, _MOST_VALUES).astype(np.int64))
        yield from space.start + values
    elif isinstance(space, MultiDiscreteSpace):
        most = min(int(space.nvec.max()), _MOST_VALUES)
        yield from (space.start + np.minimum(value, space.nvec - 1) for value in range(most))
        yield space.start + space.nvec - 1
    else:
        yield np.zeros(space.shape)
        yield np.ones(space.shape)
        yield (np.arange(int(np.prod(space.shape))) % 2).reshape(space.shape)


def _box_edges(each: ObservationInput, space: BoxSpace) -> Iterator[Array]:
    yield space.low
    yield space.high
    if space.dtype.kind != "f":
        yield (np.arange(space.low.size) % 2 * 255).reshape(space.shape)
        return
    tiny = np.finfo(np.float32).smallest_subnormal
    for value in (0.0, -0.0, tiny, -tiny, 1.0, -1.0, 1e6, -1e6):
        yield np.full(space.shape, value)
    scale, _ = _scales(each)
    centre = np.zeros(space.shape)
    if scale is not None and each.normalizer is not None:
        centre, std = scale
        yield centre
        for factor in (1.0, 1 - 1e-6, 1 + 1e-6):
            yield centre + std * each.normalizer.clip * factor
            yield centre - std * each.normalizer.clip * factor
    dimensions = min(_MOST_DIMENSIONS, 1 + _MOST_NUMBERS // (1 + centre.size))
    for index in islice(np.ndindex(space.shape), dimensions):
        for value in (-1e3, 1e3):
            row = centre.astype(np.float64)
            row[index] = value
            yield row
