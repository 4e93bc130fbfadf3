"""The functions of rollout_math, compiled."""

from trpo_deploy.train.rollout_math import (
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
