"""A vector environment of Gymnasium as a Stable-Baselines3 ``VecEnv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from trpo_deploy.errors import EnvError
from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.vec_env.episode_statistics import EpisodeStatistics

VectorEnv: TypeAlias = gymnasium.vector.VectorEnv[Any, Any, Any]


class GymnasiumVecEnv(VecEnv):
    """Gymnasium's environments with the resets and ``infos`` that SB3 expects.

    SB3 expects the first observation of the next episode in the last step of an episode, and the
    last observation in the info's ``terminal_observation``. ``AutoresetMode.SAME_STEP`` does that.
    In the other modes the environments whose episode ended are reset here, at once, by
    ``reset(options={"reset_mask": ...})``.

    Args:
        vector: The environments.
    """

    def __init__(self, vector: VectorEnv) -> None:
        self._vector = vector
        mode = vector.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self._same_step = mode == AutoresetMode.SAME_STEP
        super().__init__(
            vector.num_envs, vector.single_observation_space, vector.single_action_space
        )
        self._statistics = EpisodeStatistics(vector.num_envs)
        self._recorded = _recorded(vector)
        self._actions: Array = np.zeros(0)

    def reset(self) -> VecEnvObs:
        """Reset all environments; environment ``i`` gets the first seed plus ``i``."""
        observations, infos = self._vector.reset(seed=self._seeds[0])
        self._reset_seeds()
        self.reset_infos = [_info(infos, i, self.num_envs) for i in range(self.num_envs)]
        self._statistics.reset()
        first: VecEnvObs = _copied(observations)
        return first

    def step_async(self, actions: Array) -> None:
        """Store the actions for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all environments and reset those whose episodes ended."""
        observations, rewards, terminated, truncated, batched = self._vector.step(self._actions)
        for name in self._recorded:
            batched.pop(name, None)
        observations = _copied(observations)
        dones = np.logical_or(terminated, truncated)
        infos = [_info(batched, i, self.num_envs) for i in range(self.num_envs)]
        for info, cut in zip(infos, np.logical_and(truncated, ~terminated), strict=True):
            info["TimeLimit.truncated"] = bool(cut)
        if dones.any():
            if self._same_step:
                self._take_final(batched, infos, dones)
            else:
                observations = self._reset_ended(observations, infos, dones)
        rewards = rewards.astype(np.float32)
        self._statistics.step(rewards, np.flatnonzero(dones), infos)
        return observations, rewards, dones, infos

    def _take_final(
        self, batched: Mapping[str, Any], infos: list[dict[str, Any]], dones: Array
    ) -> None:
        """Put the infos of the last steps in place of those of the resets."""
        for i in np.flatnonzero(dones).tolist():
            self.reset_infos[i] = {
                name: value
                for name, value in infos[i].items()
                if name not in ("final_obs", "final_info", "TimeLimit.truncated")
            }
            infos[i] = {
                **_info(batched["final_info"], i, self.num_envs),
                "TimeLimit.truncated": infos[i]["TimeLimit.truncated"],
                "terminal_observation": batched["final_obs"][i],
            }

    def _reset_ended(self, last: Any, infos: list[dict[str, Any]], dones: Array) -> Any:
        """Reset the environments whose episodes ended; the first observations of the new ones.

        Raises:
            EnvError: The environments cannot be reset one by one.
        """
        for i in np.flatnonzero(dones).tolist():
            infos[i]["terminal_observation"] = _row(last, i)
        try:
            first, batched = self._vector.reset(options={"reset_mask": dones.copy()})
        except ValueError as error:  # of a wrapper: its statistics are of all environments
            raise EnvError(
                f"{error} Its environments are reset one by one here: make them with "
                "autoreset_mode=AutoresetMode.SAME_STEP, or leave the wrapper out; VecNormalize of "
                "Stable-Baselines3 normalizes, and its statistics can be saved"
            ) from error
        if not _equal(first, last, ~dones):
            raise EnvError(
                f"{type(self._vector.unwrapped).__name__} resets an environment in the step after "
                "its episode, and cannot reset a single one at once: make it with "
                "autoreset_mode=AutoresetMode.SAME_STEP, or with "
                "gymnasium.make_vec(id, vectorization_mode='sync')"
            )
        for i in np.flatnonzero(dones).tolist():
            self.reset_infos[i] = _info(batched, i, self.num_envs)
        return _copied(first)

    def close(self) -> None:
        """Close the environments."""
        self._vector.close()

    def get_images(self) -> Sequence[Array | None]:
        """An image of each environment."""
        frames: Any = self._vector.render()
        return [None] * self.num_envs if frames is None else list(frames)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the environments."""
        if attr_name == "render_mode":
            return [self._vector.render_mode for _ in self._get_indices(indices)]
        values = self._method("get_attr")(attr_name)
        return [values[i] for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the environments."""
        values = [value] * self.num_envs
        chosen = set(self._get_indices(indices))
        if len(chosen) < self.num_envs:
            old = self._method("get_attr")(attr_name)
            values = [value if i in chosen else old[i] for i in range(self.num_envs)]
        self._method("set_attr")(attr_name, values)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of all environments."""
        if len(set(self._get_indices(indices))) < self.num_envs:
            raise ValueError(f"{method_name}: Gymnasium calls the method of all environments only")
        return list(self._method("call")(method_name, *method_args, **method_kwargs))

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Whether environments have a wrapper; false for those in other processes."""
        vector = self._vector.unwrapped
        envs = vector.envs if isinstance(vector, SyncVectorEnv) else None
        return [
            envs is not None and is_wrapped(envs[i], wrapper_class)
            for i in self._get_indices(indices)
        ]

    def _method(self, name: str) -> Any:
        """A method that only vector environments of single ones have."""
        found = getattr(self._vector.unwrapped, name, None)
        if found is None:
            raise AttributeError(
                f"{type(self._vector.unwrapped).__name__} has no {name}(): it has no single "
                "environments"
            )
        return found


def _recorded(vector: VectorEnv) -> list[str]:
    """Keys of the infos that ``RecordEpisodeStatistics`` adds.

    It is a wrapper of vector environments, and forgets running episodes when others are reset.
    """
    names = []
    while isinstance(vector, VectorWrapper):
        if isinstance(vector, RecordEpisodeStatistics):
            names += [vector._stats_key, f"_{vector._stats_key}"]
        vector = vector.env
    return names


def _copied(observations: Any) -> Any:
    """A copy of a batch of observations: Gymnasium may reuse its memory."""
    if isinstance(observations, Mapping):
        return {key: np.array(part) for key, part in observations.items()}
    return np.array(observations)


def _row(observations: Any, i: int) -> Any:
    if isinstance(observations, Mapping):
        return {key: part[i].copy() for key, part in observations.items()}
    return observations[i].copy()


def _equal(one: Any, other: Any, mask: Array) -> bool:
    """Whether the observations of the environments of ``mask`` are equal."""
    if isinstance(one, Mapping):
        return all(_equal(one[key], other[key], mask) for key in one)
    rows = np.asarray(one)[mask], np.asarray(other)[mask]
    return np.array_equal(*rows, equal_nan=rows[0].dtype.kind == "f")


def _info(batched: Mapping[str, Any], i: int, n_envs: int) -> dict[str, Any]:
    """The info of one environment; see ``VectorEnv._add_info``, which batches them.

    ``_key`` tells which environments have ``key``.
    """
    info = {}
    for key, values in batched.items():
        if key.startswith("_") and key[1:] in batched:
            continue
        mask = batched.get(f"_{key}")
        if mask is not None and not mask[i]:
            continue
        if isinstance(values, Mapping):
            info[key] = _info(values, i, n_envs)
        elif mask is not None or np.shape(values)[:1] == (n_envs,):
            info[key] = values[i]
    return info
