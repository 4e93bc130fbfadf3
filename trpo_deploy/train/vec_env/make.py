"""The environments of a run: several side by side, with their statistics."""

from __future__ import annotations

import copy
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecNormalize

from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.episode import MAX_EPISODE_STEPS, Episode
from trpo_deploy.errors import ConfigError, SpaceError
from trpo_deploy.train.config.train_config import TrainConfig
from trpo_deploy.train.vec_env.checked import CheckedVecEnv, ReportingEnv
from trpo_deploy.train.vec_env.normalizer import check_no_images
from trpo_deploy.train.vec_env.sync import SyncVecEnv

_TAKEN = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def make_training_env(config: TrainConfig) -> VecEnv:
    """The environments to train in, each with a ``Monitor``, normalised if the run says so.

    ``vec_env="auto"`` is ``sync``: with the tasks that presets are shipped for, the way to
    another process and back takes longer than a step.

    Raises:
        EnvError: the environment cannot be made.
        SpaceError: TRPO does not take its spaces.
        ConfigError: the settings do not fit the environment.
    """
    env = _make(config, config.vec_env, config.n_envs, config.seed)
    if not config.normalize:
        return env
    raw_space = copy.deepcopy(env.observation_space)
    try:
        normalized = VecNormalize(env, **_normalizer_arguments(config))
    except (LookupError, TypeError, ValueError) as error:
        env.close()
        raise ConfigError(
            f"normalize={config.normalize!r} does not fit {config.env_id}: "
            f"{' '.join(str(error).split())}; --set normalize=false trains on raw observations"
        ) from error
    try:
        check_no_images(normalized, raw_space)
    except SpaceError:
        env.close()
        raise
    return normalized


def make_evaluation_env(config: TrainConfig, training_env: VecEnv) -> VecEnv:
    """Environments to evaluate in: raw rewards, the training's statistics, its own seed.

    The statistics are shared and not copied, so they are the training's at any time. An
    episode without an end is cut where ``trpo-deploy evaluate`` cuts it.
    """
    env = _make(
        config,
        "sync",
        min(config.eval_episodes, 10),
        evaluation_seed(config),
        longest=MAX_EPISODE_STEPS,
    )
    if not isinstance(training_env, VecNormalize):
        return env
    normalized = VecNormalize(
        env,
        training=False,
        norm_obs=training_env.norm_obs,
        norm_reward=False,
        clip_obs=training_env.clip_obs,
        epsilon=training_env.epsilon,
        norm_obs_keys=training_env.norm_obs_keys,
    )
    if training_env.norm_obs:
        normalized.obs_rms = training_env.obs_rms
    return normalized


@contextmanager
def closed_after(env: VecEnv) -> Iterator[VecEnv]:
    """Close environments after the block, also those whose processes have ended before."""
    try:
        yield env
    finally:
        with suppress(EOFError, OSError):
            env.close()


def evaluation_seed(config: TrainConfig) -> int:
    """Far from the seeds of the training's environments."""
    return config.seed + 1_000_000


def _make(
    config: TrainConfig, vec_env: str, n_envs: int, seed: int, longest: int | None = None
) -> VecEnv:
    # One in this process first: a mistake in a worker ends it before it can say which, and one in
    # the first reset would come when the model folder has been emptied for the run.
    environment = _environment(config)
    with environment.opened() as first:
        _check_spaces(config, first)
        Episode(environment, first, seed)
        if vec_env == "envpool":
            from trpo_deploy.train.vec_env.envpool import EnvPoolVecEnv

            env: VecEnv = EnvPoolVecEnv(config, n_envs, seed, first)
        else:
            makers: Any = [partial(_monitored, config, longest)] * n_envs
            env = _subproc(makers) if vec_env == "subproc" else SyncVecEnv(makers)
            env.seed(seed)
    return CheckedVecEnv(env, config.env_id)


def _subproc(makers: Any) -> VecEnv:
    # Without it every process imports all of this anew, which takes seconds of a core each.
    multiprocessing.set_forkserver_preload([__name__])
    return SubprocVecEnv(makers)


def _environment(config: TrainConfig) -> Environment:
    return Environment(
        config.env_id,
        dict(config.env_kwargs),
        env_wrapper=config.env_wrapper,
        frame_stack=config.frame_stack,
    )


def _monitored(config: TrainConfig, longest: int | None) -> gymnasium.Env[Any, Any]:
    env = _environment(config).make()
    return ReportingEnv(Monitor(env if longest is None else TimeLimit(env, longest)))


def _check_spaces(config: TrainConfig, env: gymnasium.Env[Any, Any]) -> None:
    """What no policy can be made for is refused here, with what to do about it."""
    observations = env.observation_space
    if config.policy == "MultiInputPolicy" and not isinstance(observations, spaces.Dict):
        raise SpaceError(
            f"{config.env_id} has a {type(observations).__name__} space for the observations, and "
            "MultiInputPolicy takes a Dict: use --set policy=MlpPolicy, or CnnPolicy for images"
        )
    if isinstance(observations, spaces.Dict):
        for key, part in observations.items():
            _check_space(config, f"the observation {key!r}", part)
        _check_layouts(config, observations)
    else:
        _check_space(config, "the observations", observations)
    actions = env.action_space
    _check_space(config, "the actions", actions)
    if isinstance(actions, spaces.Box) and actions.dtype.kind != "f":
        raise SpaceError(
            f"{config.env_id} has a Box of whole numbers for the actions, {actions}; a policy "
            "draws real ones: make it a MultiDiscrete, or round in a wrapper with "
            "--set env_wrapper=module.Class"
        )


_WHAT_TO_DO: dict[type, str] = {
    spaces.Tuple: "a Dict of observations takes named parts; actions go into one MultiDiscrete "
    "or Box",
    spaces.Dict: "put observations on one level of keys, and actions into one MultiDiscrete or Box",
    spaces.Text: "encode the text as a Box or MultiDiscrete of fixed size",
    spaces.Sequence: "pad it to a Box of fixed size",
    spaces.Graph: "encode nodes and edges as Boxes of fixed size in a Dict",
}


def _check_space(config: TrainConfig, what: str, space: spaces.Space[Any]) -> None:
    if isinstance(space, _TAKEN):
        return
    todo = next(
        (text for kind, text in _WHAT_TO_DO.items() if isinstance(space, kind)),
        "convert it to one of these",
    )
    raise SpaceError(
        f"{config.env_id} has a {type(space).__name__} space for {what}, {space}; TRPO takes "
        f"{', '.join(kind.__name__ for kind in _TAKEN)}, and a Dict of these as observations; "
        f"wrap the environment with --set env_wrapper=module.Class: {todo}"
    )


def _check_layouts(config: TrainConfig, observations: spaces.Dict) -> None:
    """SB3 turns all images of an observation around, or none."""
    images = {
        key: part
        for key, part in observations.items()
        if isinstance(part, spaces.Box) and is_image_space(part)
    }
    first = [key for key, part in images.items() if is_image_space_channels_first(part)]
    last = [key for key in images if key not in first]
    if first and last:
        raise SpaceError(
            f"{config.env_id} has the images {', '.join(first)} with their channels first and "
            f"{', '.join(last)} with their channels last; a policy takes one layout: transpose "
            "the ones or the others with --set env_wrapper=module.Class"
        )


def _normalizer_arguments(config: TrainConfig) -> dict[str, Any]:
    """As RL Zoo does it: the returns are discounted as the algorithm discounts them."""
    arguments = dict(config.normalize) if not isinstance(config.normalize, bool) else {}
    if "gamma" in config.hyperparameters:
        arguments.setdefault("gamma", config.hyperparameters["gamma"])
    return arguments
