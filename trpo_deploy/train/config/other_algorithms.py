"""Settings of SB3's other algorithms, and what TRPO has in their place."""

from __future__ import annotations

import inspect

from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3

from trpo_deploy.errors import ConfigError

_IN_PLACE = {
    "clip_range": "TRPO limits the policy's step with target_kl",
    "clip_range_vf": "TRPO limits the critic's steps with learning_rate and critic_max_grad_norm",
    "ent_coef": "TRPO has no entropy bonus",
    "vf_coef": "TRPO trains the critic on its own, with learning_rate and n_critic_updates",
    "max_grad_norm": "TRPO clips the critic's gradient only, with critic_max_grad_norm",
    "n_epochs": "TRPO takes one step of the policy, and n_critic_updates passes for the critic",
    "use_rms_prop": "TRPO's critic uses policy_kwargs.optimizer_class",
    "rms_prop_eps": "TRPO's critic uses policy_kwargs.optimizer_kwargs",
}
"""Settings of the on-policy algorithms."""
_OFF_POLICY = "TRPO learns on-policy, from n_steps steps in each of n_envs environments"
_OF_THE_RUN = {
    "env": "give the environment as the argument ENV_ID",
    "tensorboard_log": "use --tensorboard FOLDER",
    "verbose": "use --progress or --no-progress",
    "rollout_buffer_class": "call trpo_deploy.train.TRPO in a script",
    "rollout_buffer_kwargs": "call trpo_deploy.train.TRPO in a script",
    "_init_setup_model": "call trpo_deploy.train.TRPO in a script",
}
"""Arguments of TRPO that a run passes itself, and what the user does instead."""


_OTHER_NAMES = {
    "lr": "learning_rate",
    "vf_lr": "learning_rate",
    "total_timesteps": "n_timesteps",
    "discount": "gamma",
    "lam": "gae_lambda",
    "delta": "target_kl",
    "max_kl": "target_kl",
    "cg_iters": "cg_max_steps",
    "damping_coeff": "cg_damping",
    "hidden_sizes": "policy_kwargs.net_arch",
}
"""Names that papers and other libraries give to settings of TRPO."""


def check_not_of_another_algorithm(name: str) -> None:
    """Check that an unknown setting is not one of another algorithm, or one that the run makes.

    Nor may it be another library's name of a setting.

    Raises:
        ConfigError: It is one. The message says what to use in its place.
    """
    if name in _OTHER_NAMES:
        raise ConfigError(f"unknown setting {name!r}; here it is {_OTHER_NAMES[name]}")
    if name in _OF_THE_RUN:
        raise ConfigError(f"the run sets {name!r} itself; {_OF_THE_RUN[name]}")
    for algorithm in (PPO, A2C, DQN, SAC, TD3, DDPG):
        if name in inspect.signature(algorithm).parameters:
            instead = _IN_PLACE.get(name, _OFF_POLICY)
            raise ConfigError(f"{name!r} is a setting of {algorithm.__name__}; {instead}")
