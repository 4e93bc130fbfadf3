"""All that a run needs to go on as if it had never stopped, in one file.

A checkpoint is taken between two updates and read without running code: structure as JSON,
numbers as arrays (see :mod:`trpo_deploy.train.codec`). It holds the policy, the optimiser, the
normaliser, counters, the state of every random generator, where the environments stand, the
pending log values, the evaluations and the best policy so far.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from trpo_deploy.errors import ConfigError, ModelDirError
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.yaml import read_yaml, to_yaml
from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.codec import dump_plain, load_plain
from trpo_deploy.train.config.train_config import TrainConfig, different_settings

_FORMAT = 3
# What a resumed run may change: how long it is, where it is computed, how often it is written.
_MAY_CHANGE = ("n_timesteps", "stop_return", "checkpoint_every", "device")
_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_refusals_in_a_row", "_n_refusals")
_BUFFERS = ("ep_info_buffer", "ep_success_buffer")
_NOISE = ("exploration_mat", "exploration_matrices")


@dataclass(frozen=True)
class Checkpoint:
    """What is kept of a run; all of it plain values."""

    config: dict[str, Any]
    """The run's :class:`TrainConfig`."""
    spaces: list[str]
    """The spaces of observations and actions, as text."""
    learner: dict[str, Any]
    """What an update changes; see :func:`learner_state`."""
    course: dict[str, Any]
    """What a rollout changes; see :func:`course_state`."""
    log: dict[str, Any]
    """Values that wait for the next row of the log, and how many rows there are."""
    evaluation: dict[str, Any]
    """The evaluations, and the files of the best policy."""
    finished: bool
    """Whether all steps of the run were done."""

    def dump(self) -> bytes:
        """The checkpoint as the content of its file."""
        return dump_plain({"format": _FORMAT, **vars(self)})

    @property
    def timesteps(self) -> int:
        """Environment steps that the run had made."""
        return int(self.learner["counters"]["num_timesteps"])


def read_checkpoint(folder: ModelDir) -> Checkpoint | None:
    """The checkpoint of a model folder, or None if its run was stopped before the first one.

    Raises:
        ModelDirError: there is a file that is no checkpoint, or a policy and no checkpoint.
    """
    path = folder.checkpoint
    if not path.is_file():
        if folder.policy_zip.is_file():
            raise ModelDirError(
                f"{folder.root} holds a policy but no checkpoint, so nothing can be resumed; "
                "train into another folder with -o, or anew with --force"
            )
        return None
    try:
        return load_checkpoint(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelDirError(
            f"{path} is no checkpoint that can be read ({error}); train anew with --force"
        ) from error


def settings_to_resume(folder: ModelDir) -> str | None:
    """The run's ``config.yaml``, written anew from the checkpoint if it is damaged or gone.

    Returns:
        Its path, as a preset; None if there is neither.

    Raises:
        ModelDirError: the checkpoint is needed and cannot be read.
    """
    try:
        whole = {"hyperparameters", "versions"} <= read_yaml(folder.config).keys()
    except ConfigError:
        whole = False
    checkpoint = None if whole else read_checkpoint(folder)
    if checkpoint is not None:
        atomic_write(folder.config, to_yaml(checkpoint.config))
    return str(folder.config) if folder.config.is_file() else None


def load_checkpoint(data: bytes) -> Checkpoint:
    """A checkpoint from the content of its file.

    Raises:
        ValueError: it is none, or of another format.
    """
    content = load_plain(data)
    if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
        raise ValueError(f"not of format {_FORMAT}, which this version of trpo-deploy reads")
    if set(content) != {each.name for each in fields(Checkpoint)}:
        raise ValueError("parts are missing")
    return Checkpoint(**content)


def check_same_settings(checkpoint: Checkpoint, config: TrainConfig) -> None:
    """Refuse to go on with other settings than the checkpoint's.

    Raises:
        ConfigError: naming the setting, and both of its values.
    """
    for name, ours, theirs in different_settings(checkpoint.config, config):
        if name not in _MAY_CHANGE:
            raise ConfigError(
                f"the run to resume has {name}={ours!r}, not {theirs!r}; leave that setting out, "
                "or train into another folder with -o"
            )
    asked, planned = config.n_timesteps, checkpoint.config["n_timesteps"]
    if asked < min(planned, checkpoint.timesteps):
        raise ConfigError(
            f"the run to resume has made {checkpoint.timesteps} of {planned} steps, more than "
            f"{asked}; ask for more with -n, or leave -n out"
        )


def check_same_spaces(checkpoint: Checkpoint, model: TRPO) -> None:
    """Refuse to go on in an environment whose spaces have changed.

    Raises:
        ConfigError: naming both.
    """
    roles = ("observations", "actions")
    for what, ours, theirs in zip(roles, checkpoint.spaces, space_texts(model), strict=True):
        if ours != theirs:
            raise ConfigError(
                f"the {what} were {ours} in the run to resume and are {theirs} now; train into "
                "another folder with -o"
            )


def space_texts(model: TRPO) -> list[str]:
    """The spaces of observations and actions, as text to compare."""
    env = model.get_env()
    assert env is not None
    return [str(env.observation_space), str(env.action_space)]


def learner_state(model: TRPO) -> dict[str, Any]:
    """What an update changes: networks, optimiser, statistics and counters."""
    normalizer = model.get_vec_normalize_env()
    return {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "normalizer": None if normalizer is None else _normalizer_state(normalizer),
        "return_moments": model.return_moments,
        "running_returns": model.running_returns,
        "counters": {name: getattr(model, name) for name in _COUNTERS},
    }


def restore_learner(model: TRPO, state: dict[str, Any]) -> None:
    """Undo whatever happened to the learner since :func:`learner_state`."""
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    normalizer = model.get_vec_normalize_env()
    if normalizer is not None:
        _restore_normalizer(normalizer, state["normalizer"])
    model.return_moments = state["return_moments"]
    model.running_returns = state["running_returns"]
    vars(model).update(state["counters"])


def _normalizer_state(env: VecNormalize) -> dict[str, Any]:
    statistics = _statistics(env)
    return {"returns": env.returns, **{name: vars(each) for name, each in statistics.items()}}


def _restore_normalizer(env: VecNormalize, state: dict[str, Any]) -> None:
    env.returns = state["returns"].copy()
    for name, each in _statistics(env).items():
        # Into the same objects: the evaluation's environments share them.
        vars(each).update(state[name])


def _statistics(env: VecNormalize) -> dict[str, RunningMeanStd]:
    """All running statistics of a normaliser by name."""
    named = {"ret_rms": env.ret_rms}
    if not env.norm_obs:
        return named
    observations: Any = env.obs_rms  # SB3 types it as one, and keeps one for each key of a Dict
    if isinstance(observations, dict):
        return named | {f"obs_rms.{key}": each for key, each in observations.items()}
    return named | {"obs_rms": observations}


def course_state(model: TRPO) -> dict[str, Any]:
    """What a rollout changes: where environments stand, and every source of randomness."""
    assert model.env is not None
    states = None
    if model.env.has_attr("checkpoint_state"):
        states = model.env.env_method("checkpoint_state")
    return {
        # Half of the environments where they were would be no exact resume either.
        "environments": None if states is None or None in states else states,
        "last_obs": model._last_obs,
        "last_episode_starts": model._last_episode_starts,
        "buffers": {name: getattr(model, name) for name in _BUFFERS},
        "seconds": (time.time_ns() - model.start_time) / 1e9,
        "randomness": _randomness(model),
    }


def restore_course(model: TRPO, state: dict[str, Any]) -> bool:
    """Go on where :func:`course_state` was taken.

    Returns:
        False if the environments cannot be put where they stood; they start new episodes.
    """
    assert model.env is not None
    vars(model).update(state["buffers"])
    model.start_time = time.time_ns() - int(state["seconds"] * 1e9)
    model._num_timesteps_at_start = 0
    exact = state["environments"] is not None
    if exact:
        for i, environment in enumerate(state["environments"]):
            model.env.env_method("restore_state", environment, indices=i)
        model._last_obs = state["last_obs"]
        model._last_episode_starts = state["last_episode_starts"]
    else:
        # Not the seeds of the run's first episodes: those have been played.
        model.env.seed((model.seed or 0) + model.num_timesteps)
        model._last_obs = model.env.reset()  # type: ignore[assignment]
        model._last_episode_starts = np.ones(model.env.num_envs, dtype=bool)
    restore_randomness(model, state)
    return exact


def _randomness(model: TRPO) -> dict[str, Any]:
    noise = {name: getattr(model.policy.action_dist, name, None) for name in _NOISE}
    cuda = torch.cuda.get_rng_state_all() if model.device.type == "cuda" else None
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "noise": noise if model.use_sde else {},
    }


def restore_randomness(model: TRPO, state: dict[str, Any]) -> None:
    """Put the generators, and gSDE's noise that was drawn from them, where they were."""
    kept = state["randomness"]
    random.setstate(kept["python"])
    np.random.set_state(kept["numpy"])
    torch.set_rng_state(kept["torch"])
    if kept["cuda"] is not None and model.device.type == "cuda":
        torch.cuda.set_rng_state_all(kept["cuda"])
    for name, noise in kept["noise"].items():
        setattr(model.policy.action_dist, name, noise.to(model.device))
