"""EnvPool's environments as a Stable-Baselines3 ``VecEnv``."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from trpo_deploy.envs.environment import Environment
from trpo_deploy.errors import ConfigError, EnvError
from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.vec_env.envpool_import import import_envpool
from trpo_deploy.train.vec_env.episode_statistics import EpisodeStatistics


class EnvPoolVecEnv(VecEnv):
    """Environments that EnvPool's threads step, with the ``infos`` that SB3 expects.

    EnvPool resets an environment in the step after its last one. SB3 expects the first observation
    of the next episode at once, and the last one of this episode in ``terminal_observation``.
    ``TimeLimit.truncated`` says whether to bootstrap; ``episode`` holds the statistics of
    ``Monitor``.

    Args:
        environment: The environment; EnvPool makes its own of the same id.
        n_envs: Number of environments.
        seed: Seed of the first environment; environment ``i`` gets ``seed + i``.
        reference: Gymnasium's environment of that id, whose spaces EnvPool's must have.

    Raises:
        MissingExtraError: EnvPool is not installed.
        EnvError: EnvPool does not have the environment, or a different one of that id.
        ConfigError: The environment has wrappers, which EnvPool does not support.
    """

    def __init__(
        self,
        environment: Environment,
        n_envs: int,
        seed: int,
        reference: gymnasium.Env[Any, Any],
    ) -> None:
        if environment.env_wrapper is not None or environment.frame_stack is not None:
            raise ConfigError(
                "EnvPool does not support env_wrapper and frame_stack; use --vec-env sync"
            )
        self._environment, self._n_envs = environment, n_envs
        self._pool = _make_pool(environment, n_envs, seed)
        # The seed of a pool that was neither reset nor stepped; None afterwards.
        self._fresh_seed: int | None = seed
        self._dtype = reference.observation_space.dtype
        for role, expected, found in (
            ("observations", reference.observation_space, self._pool.observation_space),
            ("actions", reference.action_space, self._pool.action_space),
        ):
            if _size(expected) != _size(found):
                raise EnvError(
                    f"EnvPool's {environment.env_id} has the {role} {found}, Gymnasium's has "
                    f"{expected}; use --vec-env sync"
                )
        super().__init__(n_envs, reference.observation_space, reference.action_space)
        self._statistics = EpisodeStatistics(n_envs)
        self._actions: Array = np.zeros(0)

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Make the environments again: EnvPool takes a seed only when it makes them."""
        first = 0 if seed is None else seed
        # malloc keeps the memory of the first pool, so a second one is made only if needed.
        if first != self._fresh_seed:
            self._fresh_seed = None
            self._pool.close()
            self._pool = _make_pool(self._environment, self._n_envs, first)
            self._fresh_seed = first
        return [first + i for i in range(self._n_envs)]

    def reset(self) -> VecEnvObs:
        """Reset all environments."""
        self._fresh_seed = None
        observations, _ = self._pool.reset()
        self._statistics.reset()
        return self._observations(observations)

    def step_async(self, actions: Array) -> None:
        """Store the actions for :meth:`step_wait`."""
        self._fresh_seed = None
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all environments and reset those whose episodes ended."""
        observations, rewards, terminated, truncated, _ = self._pool.step(self._actions)
        observations = self._observations(observations)
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [
            {"TimeLimit.truncated": bool(cut)} for cut in truncated & ~terminated
        ]
        ended = np.flatnonzero(dones)
        for i in ended:
            infos[i]["terminal_observation"] = observations[i].copy()
        self._statistics.step(rewards, ended, infos)
        if len(ended):
            first, _ = self._pool.reset(ended.astype(np.int32))
            observations[ended] = self._observations(first)
        return observations, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Stop EnvPool's threads."""
        self._pool.close()

    def _observations(self, observations: Array) -> Array:
        return np.array(observations, dtype=self._dtype)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Only ``render_mode``: EnvPool's environments are not Python objects."""
        if attr_name == "render_mode":
            return [None for _ in self._get_indices(indices)]
        raise AttributeError(f"EnvPool's environments have no attribute {attr_name!r}")

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:  # noqa: ARG002
        """Not supported: EnvPool's environments are not Python objects."""
        raise AttributeError(f"EnvPool's environments have no attribute {attr_name!r}")

    def env_method(
        self,
        method_name: str,
        *method_args: Any,  # noqa: ARG002
        indices: VecEnvIndices = None,  # noqa: ARG002
        **method_kwargs: Any,  # noqa: ARG002
    ) -> list[Any]:
        """Not supported: EnvPool's environments are not Python objects."""
        raise AttributeError(f"EnvPool's environments have no method {method_name!r}")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """True for ``Monitor``, whose statistics the infos hold."""
        monitored = wrapper_class.__name__ == "Monitor"
        return [monitored for _ in self._get_indices(indices)]


def _size(space: gymnasium.Space[Any]) -> tuple[Any, ...]:
    """Properties that are equal for spaces with the same values."""
    return type(space), space.shape, getattr(space, "n", None)


def _make_pool(environment: Environment, n_envs: int, seed: int) -> Any:
    env_id = environment.env_id
    envpool = import_envpool(env_id)
    if env_id not in envpool.list_all_envs():
        raise EnvError(f"EnvPool has no environment {env_id}; use --vec-env sync")
    try:
        return envpool.make(
            env_id, env_type="gymnasium", num_envs=n_envs, seed=seed, **environment.kwargs
        )
    except Exception as error:  # EnvPool's errors share no base class
        reason = " ".join(str(error).split())
        raise EnvError(f"EnvPool cannot make {env_id} ({reason})") from error
