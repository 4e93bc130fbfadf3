"""SB3's on-policy algorithm for environments whose spaces SB3 does not support."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from trpo_deploy.envs.space_translation import action_from_sb3, observation_to_sb3
from trpo_deploy.envs.spaces import space_from_gymnasium
from trpo_deploy.train.vec_env.gymnasium_vector import GymnasiumVecEnv, VectorEnv
from trpo_deploy.train.vec_env.normalizer import check_normalized_spaces
from trpo_deploy.train.vec_env.space_translation import (
    TranslatedVecEnv,
    original_env,
    translate_spaces,
)


class TranslatedAlgorithm(OnPolicyAlgorithm):
    """Trains on translated spaces; ``predict`` and ``get_env`` use the environment's own.

    See :mod:`trpo_deploy.envs.space_translation`. The arguments are those of
    ``OnPolicyAlgorithm``, with ``_init_setup_model=False``: subclasses call ``_setup_model``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # None where SB3 supports the space. The names are part of saved files.
        self.env_observation_space: spaces.Space[Any] | None = None
        self.env_action_space: spaces.Space[Any] | None = None
        if isinstance(self.env, TranslatedVecEnv):
            self.env_observation_space = self.env.venv.observation_space
            self.env_action_space = self.env.venv.action_space

    @staticmethod
    def _wrap_env(
        env: GymEnv | VectorEnv, verbose: int = 0, monitor_wrapper: bool = True
    ) -> VecEnv:
        if isinstance(env, gymnasium.vector.VectorEnv):
            env = GymnasiumVecEnv(env)
        if isinstance(env, type) or not hasattr(env, "observation_space"):
            raise ValueError(
                f"expected an environment, its id, a VecEnv or a VectorEnv, got {env!r}; call a "
                "class or function that makes an environment first"
            )
        for space in (env.observation_space, env.action_space):
            # SB3 itself refuses nested Dicts; with other unsupported spaces it crashes.
            if not isinstance(space, spaces.Dict):
                space_from_gymnasium(space)
        wrapped = OnPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)
        check_normalized_spaces(unwrap_vec_normalize(wrapped))
        return translate_spaces(wrapped)

    def _setup_model(self) -> None:
        # After loading, the spaces are the zip's and the environment is that given to load().
        if self.env is not None:
            self._check_same_spaces(self.env)
        super()._setup_model()

    def set_env(self, env: GymEnv | VectorEnv, force_reset: bool = True) -> None:
        """Replace the environments; see ``BaseAlgorithm.set_env``."""
        wrapped = self._wrap_env(env, self.verbose)
        self._check_same_spaces(wrapped)
        super().set_env(wrapped, force_reset)

    def _check_same_spaces(self, env: VecEnv) -> None:
        # SB3 would compare the translated spaces only.
        original = original_env(env)
        for name in ("observation_space", "action_space"):
            translated, own = getattr(self, name), getattr(self, f"env_{name}")
            expected = translated if own is None else own
            found = getattr(original, name)
            if expected != found:
                what = name.replace("_", " ").capitalize().replace("space", "spaces")
                raise ValueError(f"{what} do not match: {expected} != {found}")

    def get_env(self) -> VecEnv | None:
        """The environments with their own spaces."""
        return None if self.env is None else original_env(self.env)

    def predict(
        self,
        observation: np.ndarray[Any, Any] | dict[str, np.ndarray[Any, Any]],
        state: tuple[np.ndarray[Any, Any], ...] | None = None,
        episode_start: np.ndarray[Any, Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray[Any, Any], tuple[np.ndarray[Any, Any], ...] | None]:
        """Action for an observation of the environment; see ``BaseAlgorithm.predict``."""
        if self.env_observation_space is not None:
            observation = observation_to_sb3(observation, self.env_observation_space)
        action, state = super().predict(observation, state, episode_start, deterministic)
        if self.env_action_space is not None:
            action = action_from_sb3(action, self.env_action_space)
        return action, state
