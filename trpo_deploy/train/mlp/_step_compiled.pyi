"""The functions of step_numpy, compiled."""

from trpo_deploy.train.mlp.step_numpy import (
    DenseForward,
    discounted,
    explored,
    finite,
    forward_pass,
    normalized,
    updated_moments,
)

__all__ = [
    "ACTIVATIONS",
    "DenseForward",
    "discounted",
    "explored",
    "finite",
    "forward_pass",
    "normalized",
    "updated_moments",
]

ACTIVATIONS: tuple[str, ...]
