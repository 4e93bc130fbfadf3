"""EnvPool's environments as a Stable-Baselines3 ``VecEnv``."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from contextlib import suppress
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from trpo_deploy.errors import ConfigError, EnvError, MissingExtraError
from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.config.train_config import TrainConfig


class EnvPoolVecEnv(VecEnv):
    """Environments stepped by EnvPool's threads, with what SB3 expects in ``infos``.

    EnvPool resets an environment in the step after its last one; SB3 expects the first
    observation of the next episode at once and the last one of this episode in
    ``terminal_observation``. ``TimeLimit.truncated`` says whether to bootstrap, and
    ``episode`` is what ``Monitor`` would have written.

    Args:
        config: which environment, with which arguments.
        n_envs: how many.
        seed: of the first; environment ``i`` has ``seed + i``.
        same: Gymnasium's environment of that id, whose spaces these must have.

    Raises:
        MissingExtraError: EnvPool is not installed.
        EnvError: EnvPool has no such environment, or another one by that name.
        ConfigError: the run asks for wrappers, which EnvPool does not take.
    """

    def __init__(
        self, config: TrainConfig, n_envs: int, seed: int, same: gymnasium.Env[Any, Any]
    ) -> None:
        if config.env_wrapper is not None or config.frame_stack is not None:
            raise ConfigError("EnvPool takes no env_wrapper and no frame_stack; use --vec-env sync")
        self._config, self._n_envs = config, n_envs
        self._pool = _make_pool(config, n_envs, seed)
        # The seed that the pool still stands at; None once it was reset or stepped.
        self._stands_at: int | None = seed
        self._dtype = same.observation_space.dtype
        for role, ours, pools in (
            ("observations", same.observation_space, self._pool.observation_space),
            ("actions", same.action_space, self._pool.action_space),
        ):
            if _size(ours) != _size(pools):
                raise EnvError(
                    f"EnvPool's {config.env_id} has the {role} {pools}, Gymnasium's has {ours}; "
                    "use --vec-env sync"
                )
        super().__init__(n_envs, same.observation_space, same.action_space)
        self._start = time.time()
        self._returns = np.zeros(n_envs)
        self._lengths = np.zeros(n_envs, dtype=np.int64)
        self._actions: Array = np.zeros(0)

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Make the environments anew: EnvPool takes a seed at no other time."""
        first = 0 if seed is None else seed
        # A second pool would take its memory beside the first one's, which stays with malloc.
        if first != self._stands_at:
            self._stands_at = None
            self._pool.close()
            self._pool = _make_pool(self._config, self._n_envs, first)
            self._stands_at = first
        return [first + i for i in range(self._n_envs)]

    def reset(self) -> VecEnvObs:
        """Reset all environments."""
        self._stands_at = None
        observations, _ = self._pool.reset()
        self._returns[:], self._lengths[:] = 0, 0
        return self._observations(observations)

    def step_async(self, actions: Array) -> None:
        """Keep the actions for the step."""
        self._stands_at = None
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """One step in all environments, and the reset of those that ended with it."""
        observations, rewards, terminated, truncated, _ = self._pool.step(self._actions)
        observations = self._observations(observations)
        dones = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [
            {"TimeLimit.truncated": bool(cut)} for cut in truncated & ~terminated
        ]
        ended = np.flatnonzero(dones)
        for i in ended:
            infos[i]["terminal_observation"] = observations[i].copy()
            infos[i]["episode"] = {
                "r": round(float(self._returns[i]), 6),
                "l": int(self._lengths[i]),
                "t": round(time.time() - self._start, 6),
            }
        if len(ended):
            first, _ = self._pool.reset(ended.astype(np.int32))
            observations[ended] = self._observations(first)
            self._returns[ended], self._lengths[ended] = 0, 0
        return observations, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """End EnvPool's threads."""
        self._pool.close()

    def _observations(self, observations: Array) -> Array:
        return np.array(observations, dtype=self._dtype)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The same value for each environment: they are no objects of their own."""
        if attr_name == "render_mode":
            return [None for _ in self._get_indices(indices)]
        raise AttributeError(f"environments of EnvPool have no attribute {attr_name!r}")

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:  # noqa: ARG002
        """There is nothing to set."""
        raise AttributeError(f"environments of EnvPool have no attribute {attr_name!r}")

    def env_method(
        self,
        method_name: str,
        *method_args: Any,  # noqa: ARG002
        indices: VecEnvIndices = None,  # noqa: ARG002
        **method_kwargs: Any,  # noqa: ARG002
    ) -> list[Any]:
        """There is nothing to call."""
        raise AttributeError(f"environments of EnvPool have no method {method_name!r}")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Whether they do what a wrapper does: ``Monitor``'s statistics are among the infos."""
        monitored = wrapper_class.__name__ == "Monitor"
        return [monitored for _ in self._get_indices(indices)]


def _size(space: gymnasium.Space[Any]) -> tuple[Any, ...]:
    """What two spaces have in common if one's values can stand for the other's."""
    return type(space), space.shape, getattr(space, "n", None)


def _make_pool(config: TrainConfig, n_envs: int, seed: int) -> Any:
    envpool = _imported(config.env_id)
    if config.env_id not in envpool.list_all_envs():
        raise EnvError(f"EnvPool has no environment {config.env_id}; use --vec-env sync")
    try:
        return envpool.make(
            config.env_id,
            env_type="gymnasium",
            num_envs=n_envs,
            seed=seed,
            **config.env_kwargs,
        )
    except Exception as error:  # EnvPool raises whatever its options meet first
        reason = " ".join(str(error).split())
        raise EnvError(f"EnvPool cannot make {config.env_id} ({reason})") from error


_IMPORTING = threading.Lock()


def _imported(env_id: str) -> Any:
    """EnvPool with MuJoCo's environments, and with all others only if that id is not among them.

    Importing all of them, matplotlib too, takes a second and 95 MB: a quarter of a run's memory.
    Until then ``envpool.make`` knows no other ids; ``import envpool.entry`` brings them.
    """
    everything = "envpool.entry"
    try:
        with _IMPORTING:
            if "envpool" not in sys.modules:
                sys.modules[everything] = ModuleType(everything)
                try:
                    with suppress(ImportError):  # what is wrong comes again, and is told, below
                        importlib.import_module("envpool.mujoco.gym.registration")
                finally:
                    del sys.modules[everything]
            import envpool

            if env_id not in envpool.list_all_envs():
                importlib.import_module(everything)
    except ImportError as error:
        raise MissingExtraError(
            f'EnvPool cannot be used here ({error}); run: pip install "trpo-deploy[envpool]"'
        ) from error
    return envpool
