"""Observations that a policy will seldom see and must not get wrong."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trpo_deploy.export.actor import ActorNetwork, Normalizer
from trpo_deploy.spec import Array, BoxSpace, DiscreteSpace


def edge_battery(actor: ActorNetwork, rng: np.random.Generator, samples: int = 256) -> Array:
    """Raw observations at the edges of a space and of its normaliser, ``(batch, ...)``.

    Bounds, infinities where the space has them, zeros, denormals, both sides of the
    normaliser's clip, one dimension at a time far out, and legal samples.
    """
    space = actor.observation_space
    if isinstance(space, DiscreteSpace):
        return np.arange(space.start, space.start + space.n)
    assert isinstance(space, BoxSpace)
    if space.dtype.kind != "f":
        rows = [space.low, space.high, *(space.sample(rng) for _ in range(samples))]
        return np.stack(rows)
    rows = [
        *_constant_rows(space),
        *_at_the_clip(actor.normalizer),
        *_one_dimension_out(space, actor.normalizer),
        *(space.sample(rng) for _ in range(samples)),
        *_around_the_mean(actor.normalizer, rng, samples),
    ]
    # As the environment would give them, and no finite number beyond its bounds.
    return np.stack([np.clip(row, space.low, space.high) for row in rows]).astype(space.low.dtype)


def _constant_rows(space: BoxSpace) -> Iterator[Array]:
    tiny = np.finfo(np.float32).smallest_subnormal
    yield space.low
    yield space.high
    for value in (0.0, -0.0, tiny, -tiny, 1.0, -1.0, 1e6, -1e6):
        yield np.full(space.shape, value)


def _at_the_clip(normalizer: Normalizer | None) -> Iterator[Array]:
    if normalizer is None:
        return
    mean, std = normalizer.mean.astype(np.float64), normalizer.std.astype(np.float64)
    for factor in (1.0, 1 - 1e-6, 1 + 1e-6):
        yield mean + std * normalizer.clip * factor
        yield mean - std * normalizer.clip * factor
    yield mean


def _one_dimension_out(space: BoxSpace, normalizer: Normalizer | None) -> Iterator[Array]:
    centre = np.zeros(space.shape) if normalizer is None else normalizer.mean.astype(np.float64)
    for index in np.ndindex(space.shape):
        for value in (-1e3, 1e3):
            row = centre.copy()
            row[index] = value
            yield row


def _around_the_mean(
    normalizer: Normalizer | None, rng: np.random.Generator, samples: int
) -> Iterator[Array]:
    if normalizer is None:
        return
    for _ in range(samples):
        yield normalizer.mean + 3.0 * normalizer.std * rng.normal(size=normalizer.mean.shape)
