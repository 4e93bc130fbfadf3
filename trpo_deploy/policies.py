"""The old module of the squashed policies, which policy zips of version 0.1 name."""

from trpo_deploy.sb3.squashed import (
    SquashedCnnPolicy,
    SquashedMlpPolicy,
    SquashedMultiInputPolicy,
)

__all__ = ["SquashedCnnPolicy", "SquashedMlpPolicy", "SquashedMultiInputPolicy"]
