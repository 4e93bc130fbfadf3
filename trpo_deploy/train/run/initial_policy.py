"""Starts a run from the weights and statistics of an earlier policy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from trpo_deploy.envs.space_translation import sb3_action_space, sb3_observation_space
from trpo_deploy.errors import ConfigError
from trpo_deploy.files.atomic import file_sha256
from trpo_deploy.files.runs import find_run
from trpo_deploy.sb3.normalizer_check import normalizer_problem
from trpo_deploy.sb3.policy_zip import PolicyZip, read_policy_zip
from trpo_deploy.sb3.statistics import read_vecnormalize
from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.checkpoint.learner_state import running_statistics
from trpo_deploy.train.config.train_config import TrainConfig


@dataclass(frozen=True)
class InitialPolicy:
    """An earlier policy, as read from its files."""

    path: str
    """What the user named, for messages."""
    policy_zip: PolicyZip
    statistics: VecNormalize | None
    sha256: Mapping[str, str]
    """Hex SHA-256 of its files, by file name."""


def read_initial_policy(config: TrainConfig) -> InitialPolicy:
    """Read the policy that ``config.init`` names. Runs no code of its files.

    Raises:
        ModelDirError: There is no policy at the path.
        PolicyZipError: A file cannot be read.
        ConfigError: The files have changed since the run that ``config`` repeats, or the policy's
            statistics are missing.
    """
    assert config.init is not None
    run = find_run(Path(config.init))
    policy_zip = read_policy_zip(run.policy_zip, config.policy_classes)
    sha256, statistics = {run.policy_zip.name: policy_zip.sha256}, None
    if run.vecnormalize is not None:
        statistics = read_vecnormalize(run.vecnormalize, config.policy_classes)
        sha256[run.vecnormalize.name] = file_sha256(run.vecnormalize)
    if config.init_sha256 is not None and config.init_sha256 != sha256:
        raise ConfigError(
            f"init={config.init}: the files have changed since the run that the preset repeats; "
            "restore them, or name the new ones with --init"
        )
    record, normalizes = policy_zip.training_record, run.settings.normalizes
    problem = normalizer_problem(record, statistics, normalizes)
    if problem:
        raise ConfigError(
            f"init={config.init}: {problem}; the statistics of a policy lie beside its zip as "
            "vecnormalize.pkl"
        )
    return InitialPolicy(config.init, policy_zip, statistics, sha256)


def start_from(model: TRPO, initial: InitialPolicy, note: Callable[[str], None]) -> None:
    """Give a new model the weights and statistics of an earlier policy.

    The actor, its noise and the statistics of observations must fit. The critic is taken over if
    it fits too. The optimiser starts without moments.

    Args:
        model: The new model.
        initial: The earlier policy.
        note: Called with what was not taken over.

    Raises:
        ConfigError: The policy is for other spaces, another network or another normaliser.
        PolicyZipError: The weights do not fit the network in the zip.
    """
    _check_spaces(model, initial)
    normalizer = model.get_vec_normalize_env()
    _check_normalizer(normalizer, initial)
    ours, theirs = model.policy, initial.policy_zip.build_policy()
    for what, describe in _ACTOR.items():
        found, expected = describe(theirs), describe(ours)
        if found != expected:
            raise ConfigError(
                f"init={initial.path}: the policy's {what} is {found}, but this run's is "
                f"{expected}; describe the same network with --set policy_kwargs=... and use_sde"
            )
    _copy(_actor(theirs), _actor(ours))
    if hasattr(ours, "log_std"):
        ours.log_std.data.copy_(theirs.log_std.data)
    if not initial.policy_zip.has_std:
        note(f"{initial.path} lacks the noise of gSDE, which starts as in a new policy")
    _take_statistics(normalizer, initial)
    if model.scale_returns and initial.policy_zip.return_moments is not None:
        model.return_moments = dict(initial.policy_zip.return_moments)
    problem = _critic_problem(model, theirs, initial)
    if problem:
        note(f"the critic of {initial.path} is not taken over, it starts new: {problem}")
    else:
        _copy(_critic(theirs), _critic(ours))


def _check_spaces(model: TRPO, initial: InitialPolicy) -> None:
    found, expected = initial.policy_zip.observation_space, model.observation_space
    if _input(sb3_observation_space(found)) != _input(expected):
        raise ConfigError(
            f"init={initial.path}: the policy observes {found}, but this run's environment has "
            f"{expected}; choose a policy of the same observations"
        )
    found, expected = initial.policy_zip.action_space, model.action_space
    if _unit(sb3_action_space(found)) != _unit(expected):
        raise ConfigError(
            f"init={initial.path}: the policy's actions are {found}, but this run's environment "
            f"takes {expected}; choose a policy of the same actions"
        )


def _input(space: spaces.Space[Any]) -> Any:
    """What decides the input of a network; bounds and dtypes of observations do not."""
    if isinstance(space, spaces.Dict):
        return {key: _input(part) for key, part in space.items()}
    if isinstance(space, spaces.Box):
        return space.shape, is_image_space(space)
    return space


def _unit(space: spaces.Space[Any]) -> Any:
    """An action space without the precision of its floats."""
    if isinstance(space, spaces.Box):
        bounds = (bound.astype(np.float32).tolist() for bound in (space.low, space.high))
        return space.shape, *bounds
    return space


def _check_normalizer(normalizer: VecNormalize | None, initial: InitialPolicy) -> None:
    """Check that the run normalises observations as the policy's training did."""
    found, expected = _normalization(initial.statistics), _normalization(normalizer)
    if found != expected:
        raise ConfigError(
            f"init={initial.path}: the policy was trained with {found}, but this run has "
            f"{expected}; change it with --set normalize=..."
        )


def _normalization(normalizer: VecNormalize | None) -> str:
    if normalizer is None or not normalizer.norm_obs:
        return "raw observations"
    keys = normalizer.norm_obs_keys
    return (
        f"normalized observations (clip_obs={normalizer.clip_obs:g}, "
        f"epsilon={normalizer.epsilon:g}"
        + ("" if keys is None else f", norm_obs_keys={sorted(keys)}")
        + ")"
    )


def _take_statistics(normalizer: VecNormalize | None, initial: InitialPolicy) -> None:
    theirs = initial.statistics
    if normalizer is None or theirs is None:
        return
    found = running_statistics(theirs)
    for name, statistics in running_statistics(normalizer).items():
        if name == "ret_rms" and not (normalizer.norm_reward and theirs.norm_reward):
            continue
        if found[name].mean.shape != statistics.mean.shape:
            raise ConfigError(
                f"init={initial.path}: the statistics have the shape {found[name].mean.shape}, but "
                f"the observations {statistics.mean.shape}; give the statistics of this policy"
            )
        # In place: evaluation environments share these objects.
        vars(statistics).update(copy.deepcopy(vars(found[name])))


def _critic_problem(model: TRPO, theirs: ActorCriticPolicy, initial: InitialPolicy) -> str:
    """Why the critic does not fit; empty if it does."""
    found, expected = (_layers(*_critic(policy)) for policy in (theirs, model.policy))
    if found != expected:
        return f"it is {found}, and this run's is {expected}"
    normalizer = model.get_vec_normalize_env()
    rewards = [each is not None and each.norm_reward for each in (initial.statistics, normalizer)]
    scales = [initial.policy_zip.return_moments is not None, model.scale_returns]
    if rewards[0] != rewards[1] or scales[0] != scales[1]:
        return "its values are in other units (normalize: norm_reward, or scale_returns)"
    return ""


def _actor(policy: ActorCriticPolicy) -> tuple[nn.Module, ...]:
    return policy.pi_features_extractor, policy.mlp_extractor.policy_net, policy.action_net


def _critic(policy: ActorCriticPolicy) -> tuple[nn.Module, ...]:
    return policy.vf_features_extractor, policy.mlp_extractor.value_net, policy.value_net


def _copy(sources: tuple[nn.Module, ...], targets: tuple[nn.Module, ...]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.load_state_dict(source.state_dict())


def _layers(*modules: nn.Module) -> str:
    """The layers of a network in one line."""
    leaves = [each for module in modules for each in module.modules() if not [*each.children()]]
    texts = [
        f"Linear({each.in_features}, {each.out_features})"
        if isinstance(each, nn.Linear)
        else repr(each).replace("\n", " ")
        for each in leaves
        if not isinstance(each, (nn.Sequential, nn.Flatten))
    ]
    return " ".join(texts)


def _noise(policy: ActorCriticPolicy) -> str:
    distribution = policy.action_dist
    text = type(distribution).__name__
    if hasattr(policy, "log_std"):
        text += f" of {tuple(policy.log_std.shape)} deviations"
    if isinstance(distribution, StateDependentNoiseDistribution) and distribution.use_expln:
        text += " with use_expln"
    return text + (" with squash_output" if policy.squash_output else "")


def _features(policy: ActorCriticPolicy) -> str:
    extractor = policy.pi_features_extractor
    text = type(extractor).__name__
    if policy.share_features_extractor and any(True for _ in extractor.parameters()):
        text += " shared with the critic"
    return text + ("" if policy.normalize_images else " of images that are not scaled")


def _hidden(policy: ActorCriticPolicy) -> str:
    shared = getattr(policy.mlp_extractor, "shared_net", None)  # SB3 before 1.8
    if shared is not None:
        return f"{_layers(shared)} shared with the critic"
    return _layers(*_actor(policy))


_ACTOR: Mapping[str, Callable[[ActorCriticPolicy], str]] = {
    "features extractor": _features,
    "network": _hidden,
    "distribution": _noise,
}
"""What must be the same in two actors, as text."""
