"""The functions of step_numpy, compiled."""

from trpo_deploy.train.mlp.step_numpy import (
    Actor,
    discounted,
    explored,
    finite,
    normalized,
    updated_moments,
)

__all__ = [
    "ACTIVATIONS",
    "Actor",
    "discounted",
    "explored",
    "finite",
    "normalized",
    "updated_moments",
]

ACTIVATIONS: tuple[str, ...]
