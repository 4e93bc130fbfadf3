"""The functions of rollout_math, compiled."""

from trpo_deploy.train.rollout_math import Actor, explored, normalized, updated_moments

__all__ = ["ACTIVATIONS", "Actor", "explored", "normalized", "updated_moments"]

ACTIVATIONS: tuple[str, ...]
