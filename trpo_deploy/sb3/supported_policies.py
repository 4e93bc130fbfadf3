"""Which classes of policies can be exported."""

from __future__ import annotations

from stable_baselines3.common.policies import ActorCriticPolicy

from trpo_deploy.sb3.squashed import SquashedMlpPolicy

SUPPORTED = "MlpPolicy, CnnPolicy and MultiInputPolicy of TRPO, PPO or A2C"

# These methods decide the action. A policy with its own, such as a recurrent one, would be misread.
_DECIDES_THE_ACTION = (
    "predict",
    "_predict",
    "obs_to_tensor",
    "get_distribution",
    "_get_action_dist_from_latent",
    "extract_features",
    "unscale_action",
)


def unsupported(kind: type) -> str:
    """Why a class of policies cannot be exported, for ``"there is a ..."``; empty if it can."""
    problem = f"{kind.__name__}, which is not supported; supported: {SUPPORTED}"
    if not issubclass(kind, ActorCriticPolicy):
        return problem
    unknown = [each for each in kind.__mro__ if each not in SquashedMlpPolicy.__mro__]
    own = [name for name in _DECIDES_THE_ACTION if any(name in vars(each) for each in unknown)]
    return f"{problem}, and their subclasses without an own {', '.join(own)}" if own else ""
