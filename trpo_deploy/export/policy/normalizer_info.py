"""What a spec says about the normaliser of a policy."""

from __future__ import annotations

import itertools
import math

from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.export.policy.observations import (
    Normalizer,
    ObservationInput,
    Reshape,
    ToFloat,
)
from trpo_deploy.spec.policy_spec import NormalizerInfo

_MOST_STATISTICS = 4096
"""Numbers of an observation up to which the spec has the normaliser's mean and deviation. A spec is
text; the statistics of an image would make it larger than the network."""


def normalizer_info(actor: ActorNetwork) -> NormalizerInfo | None:
    """The normaliser of a policy's observations; ``None`` without one."""
    found = {each.name: each.normalizer for each in actor.inputs if each.normalizer is not None}
    if not found:
        return None
    first = next(iter(found.values()))
    smallest = min(float(each.std.min()) for each in found.values())
    listed = {each.name: each for each in actor.inputs if _is_listed(each)}
    return NormalizerInfo(
        first.clip,
        first.epsilon,
        tuple(found),
        smallest,
        {name: found[name].mean.reshape(each.space.shape) for name, each in listed.items()},
        {name: found[name].std.reshape(each.space.shape) for name, each in listed.items()},
    )


def _is_listed(observation: ObservationInput) -> bool:
    """Whether the spec has the mean and deviation: they are of the raw numbers, and not of many."""
    before = itertools.takewhile(lambda step: not isinstance(step, Normalizer), observation.steps)
    return (
        observation.normalizer is not None
        and all(isinstance(step, (Reshape, ToFloat)) for step in before)
        and math.prod(observation.space.shape) <= _MOST_STATISTICS
    )
