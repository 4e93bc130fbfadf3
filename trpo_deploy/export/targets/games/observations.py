"""Which observations float32 inputs can hold."""

from __future__ import annotations

import numpy as np

from trpo_deploy.errors import ExportError
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import bounds

_LARGEST_INTEGER = 2**24  # float32 has all whole numbers up to here


def check_observations(spec: PolicySpec, engine: str) -> None:
    """Check that float32 has all observations.

    Raises:
        ExportError: An observation has numbers that float32 rounds.
    """
    for key, space in spec.observation_spaces.items():
        if space.dtype == np.float64:
            raise ExportError(
                f"{engine} feeds float32, and the policy takes the observation {key!r} as float64; "
                "export it without --float64-input"
            )
        if space.dtype.kind in "iu":
            low, high = (int(each) for each in (bounds(space)[0].min(), bounds(space)[1].max()))
            if max(-low, high) > _LARGEST_INTEGER:
                raise ExportError(
                    f"{engine} feeds float32, which has whole numbers up to {_LARGEST_INTEGER}, "
                    f"and the observation {key!r} has numbers from {low} to {high}; train with "
                    "smaller bounds"
                )
