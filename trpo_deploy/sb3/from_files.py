"""A trained policy and what is known of its training, from the files of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space

from trpo_deploy.envs.environment import Environment, newest_environment
from trpo_deploy.envs.wrappers import wrapper_classes, wrapper_list
from trpo_deploy.errors import ExportError, TrpoDeployError
from trpo_deploy.files.atomic import file_sha256
from trpo_deploy.files.source import PolicySource
from trpo_deploy.files.yaml import read_yaml
from trpo_deploy.sb3.observation_chain import ImageLayout, Wrapping, image_layout_of
from trpo_deploy.sb3.policy_zip import PolicyZip, read_policy_zip
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.sb3.source import ATARI_WRAPPER, LoadedSource, SourceOptions, unknown_wrappers
from trpo_deploy.sb3.statistics import read_vecnormalize
from trpo_deploy.spec.spaces import Array


def load_source(source: PolicySource, options: SourceOptions) -> LoadedSource:
    """Read a policy, its statistics and what is known of its environment.

    Raises:
        PolicyZipError: a file cannot be read.
        ExportError: the statistics are missing.
        SpaceError: the statistics or the frame stack do not fit, or the image layout is unknown.
    """
    config = _config(source)
    if source.vecnormalize is None and options.normalize_check and _normalizes(config):
        raise ExportError(
            f"{source.config} says that the run normalised, but there are no statistics; "
            "trpo-deploy export takes them with --vecnormalize FILE, or none with "
            "--no-normalize-check"
        )
    wrappers = tuple(wrapper_list(config.get("env_wrapper")))
    named = set(options.allow_import) - set(wrapper_classes(wrappers))
    policy_zip = read_policy_zip(source.policy_zip, sorted(named))
    hashes = {source.policy_zip.name: policy_zip.sha256}
    statistics = None
    if source.vecnormalize is not None:
        statistics = read_vecnormalize(source.vecnormalize)
        hashes[source.vecnormalize.name] = file_sha256(source.vecnormalize)
    environment = Environment(
        options.env_id or source.env_id or config.get("env_id") or "",
        dict(config.get("env_kwargs") or {}),
        env_wrapper=list(wrappers) or None,
    )
    return LoadedSource(
        reference=SB3Policy(
            policy_zip.build_policy(),
            statistics,
            policy_zip.observation_space,
            policy_zip.action_space,
            _wrapping(policy_zip.observation_space, config, options, environment),
        ),
        algorithm=policy_zip.algorithm,
        has_std=policy_zip.has_std,
        env_id=source.env_id or config.get("env_id"),
        env_kwargs=environment.kwargs,
        env_wrapper=wrappers,
        sha256=hashes,
        sb3_version=policy_zip.sb3_version,
        training=_training(policy_zip, source.evaluations),
        skipped=policy_zip.skipped,
        allow_import=options.allow_import,
    )


def _config(source: PolicySource) -> dict[str, Any]:
    """Our own configuration, or RL Zoo's two files as one."""
    if source.config is None:
        return {}
    config = read_yaml(source.config)
    arguments = source.config.with_name("args.yml")
    if arguments.is_file() and not config.get("env_kwargs"):
        config["env_kwargs"] = read_yaml(arguments).get("env_kwargs")
    return config


def _normalizes(config: Mapping[str, Any]) -> bool:
    """Whether a configuration, ours or RL Zoo's, says that observations are normalised."""
    normalize = config.get("normalize", False)
    if isinstance(normalize, str):  # RL Zoo: "{'norm_obs': False}" or "dict(norm_obs=False)"
        return re.search(r"norm_obs\W+False", normalize) is None
    if isinstance(normalize, dict):
        return bool(normalize.get("norm_obs", True))
    return bool(normalize)


def _wrapping(
    space: spaces.Space[Any],
    config: Mapping[str, Any],
    options: SourceOptions,
    environment: Environment,
) -> Wrapping:
    frame_stack = options.frame_stack or config.get("frame_stack") or 1
    if not isinstance(frame_stack, int) or frame_stack < 1:
        raise ExportError(f"frame_stack is {frame_stack!r}, expected a whole number above zero")
    layout = options.image_layout
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    if layout is None and any(is_image_space(part) for part in parts):
        layout = _layout(space, frame_stack, environment, options.allow_import)
    return Wrapping(layout, frame_stack)


def _layout(
    space: spaces.Space[Any],
    frame_stack: int,
    environment: Environment,
    allow_import: Sequence[str],
) -> ImageLayout | None:
    """The environment's own, or what its wrappers make of it."""
    wrappers = wrapper_list(environment.env_wrapper)
    names = [name for each in wrappers for name in each]
    if names and names[-1] == ATARI_WRAPPER:
        return "hwc"  # so that Atari's games need not be installed
    if not environment.env_id or unknown_wrappers(wrappers, allow_import):
        return None
    try:
        with newest_environment(environment).opened() as made:
            return image_layout_of(made.observation_space, space, frame_stack)
    except TrpoDeployError:
        return None


def _training(policy_zip: PolicyZip, evaluations: Path | None) -> dict[str, float]:
    """What the run's own evaluation said of the policy, where the layout has it."""
    training: dict[str, float] = {"timesteps": policy_zip.num_timesteps}
    if evaluations is None:
        return training
    try:
        with np.load(evaluations) as file:
            timesteps, results = file["timesteps"], file["results"]
        # The evaluation nearest to the end of what this policy was trained for.
        row: Array = results[int(np.abs(timesteps - policy_zip.num_timesteps).argmin())]
        mean, std = float(row.mean()), float(row.std())
    except (OSError, EOFError, BadZipFile, ValueError, LookupError, TypeError) as error:
        raise ExportError(f"{evaluations} holds no evaluations ({error})") from error
    return {**training, "return_mean": mean, "return_std": std, "episodes": len(row)}
