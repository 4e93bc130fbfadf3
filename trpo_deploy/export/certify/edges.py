"""Rare observations that a file must still handle correctly."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from trpo_deploy.export.certify.batches import concatenate
from trpo_deploy.export.certify.ordinary import observation_scales, ordinary_observations
from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.export.policy.observations import ObservationInput
from trpo_deploy.spec.policy_spec import Inputs
from trpo_deploy.spec.spaces import Array, BoxSpace, DiscreteSpace, MultiDiscreteSpace

_MAX_DIMENSIONS = 256  # dimensions that are moved far out one at a time
_MAX_NUMBERS = 2**17  # numbers in all observations with one dimension far out
_MAX_VALUES = 4096  # values of a Discrete that are tried


def edge_observations(actor: ActorNetwork, rng: np.random.Generator) -> Inputs:
    """Raw observations at the edges of their spaces and of the normaliser.

    They cover bounds, infinities if the space has them, zeros, denormals, both sides of the
    normaliser's clip, one dimension at a time far out, and every value of a discrete number. The
    other keys of an observation and the earlier frames are ordinary.

    Args:
        actor: The policy.
        rng: Random numbers for the ordinary parts.
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


def _edges(each: ObservationInput) -> Iterator[Array]:
    space = each.space
    if isinstance(space, BoxSpace):
        rows = _box_edges(each, space)
        yield from (np.clip(row, space.low, space.high) for row in rows)
    elif isinstance(space, DiscreteSpace):
        values = np.unique(np.linspace(0, space.n - 1, _MAX_VALUES).astype(np.int64))
        yield from space.start + values
    elif isinstance(space, MultiDiscreteSpace):
        most = min(int(space.nvec.max()), _MAX_VALUES)
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
    scale, _ = observation_scales(each)
    center = np.zeros(space.shape)
    if scale is not None and each.normalizer is not None:
        center, std = (part.reshape(space.shape) for part in scale)
        yield center
        for factor in (1.0, 1 - 1e-6, 1 + 1e-6):
            yield center + std * each.normalizer.clip * factor
            yield center - std * each.normalizer.clip * factor
    dimensions = min(_MAX_DIMENSIONS, 1 + _MAX_NUMBERS // (1 + center.size))
    for index in islice(np.ndindex(space.shape), dimensions):
        for value in (-1e3, 1e3):
            row = center.astype(np.float64)
            row[index] = value
            yield row
