"""Alias of the squashed policies: policy zips of version 0.1 name this module."""

from trpo_deploy.sb3.squashed import (
    SquashedCnnPolicy,
    SquashedMlpPolicy,
    SquashedMultiInputPolicy,
)

__all__ = ["SquashedCnnPolicy", "SquashedMlpPolicy", "SquashedMultiInputPolicy"]
