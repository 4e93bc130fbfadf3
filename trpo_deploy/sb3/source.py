"""A trained policy and what is known of its training: from a run's files, or from memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import (
    VecEnvWrapper,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
    unwrap_vec_wrapper,
)

from trpo_deploy.envs.environment import Environment, find_environment, newest_environment
from trpo_deploy.envs.wrappers import wrapper_classes, wrapper_list
from trpo_deploy.errors import ExportError, TrpoDeployError
from trpo_deploy.files.model_dir import PolicySource, file_sha256
from trpo_deploy.files.yaml import read_yaml
from trpo_deploy.sb3.observation_chain import ImageLayout, Wrapping, image_layout_of
from trpo_deploy.sb3.policy_zip import SUPPORTED, PolicyZip, read_policy_zip, read_vecnormalize
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.spec.policy_spec import Array, DictSpace, Space

# Wrappers whose modules may be imported because a configuration names them.
_KNOWN_WRAPPERS = re.compile(
    r"(gymnasium\.wrappers|rl_zoo3\.wrappers|sb3_contrib\.common\.wrappers"
    r"|stable_baselines3\.common\.atari_wrappers)\.\w+"
)
_ATARI_WRAPPER = "stable_baselines3.common.atari_wrappers.AtariWrapper"


@dataclass(frozen=True)
class SourceOptions:
    """What a user can say of a source that the source does not tell itself."""

    env_id: str | None = None
    """The environment, for real observations, returns and the layout of images."""
    image_layout: ImageLayout | None = None
    """How the environment lays out images."""
    frame_stack: int | None = None
    """Frames that ``VecFrameStack`` put together."""
    allow_import: tuple[str, ...] = ()
    """Classes of the user's own that the source may name, as ``package.module:Class``."""
    normalize_check: bool = True
    """Whether a run that says it normalised must have its statistics."""


@dataclass(frozen=True, eq=False)
class LoadedSource:
    """A policy as SB3 runs it, and what is known of its training."""

    reference: SB3Policy
    algorithm: str
    has_std: bool
    env_id: str | None
    env_kwargs: Mapping[str, Any]
    env_wrapper: tuple[dict[str, dict[str, Any]], ...]
    sha256: Mapping[str, str]
    sb3_version: str
    training: Mapping[str, float] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    """Entries of the zip that were not decoded, since nothing needs them."""
    allow_import: tuple[str, ...] = ()
    """See :class:`SourceOptions`."""

    def environment(self, asked: str | None, spaces: _Spaces) -> tuple[Environment | None, str]:
        """The environment asked for, or the source's own; and why there is none, or another.

        Raises:
            EnvError: the environment that was asked for cannot be made or does not fit.
        """
        env_id = asked or self.env_id
        if env_id is None:
            return None, "the source does not tell its environment; name it with --env"
        unknown = _unknown_wrappers(self.env_wrapper, self.allow_import)
        if unknown and asked is None:
            return None, (
                f"the training wrapped {env_id} in {', '.join(unknown)}, which is not known here, "
                "so that the policy was not played; --allow-import module:Class allows it"
            )
        try:
            wrappers = None if unknown else list(self.env_wrapper)
            found = find_environment(env_id, dict(self.env_kwargs), *spaces, wrappers)
        except TrpoDeployError as error:
            if asked is not None:
                raise
            # The policy can be exported all the same; the certificate says what was not compared.
            return None, str(error)
        return found, found.note


_Spaces = tuple[Space | DictSpace, Space]


# --- files ----------------------------------------------------------------------------------


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
    if names and names[-1] == _ATARI_WRAPPER:
        return "hwc"  # so that Atari's games need not be installed
    if not environment.env_id or _unknown_wrappers(wrappers, allow_import):
        return None
    try:
        with newest_environment(environment).opened() as made:
            return image_layout_of(made.observation_space, space, frame_stack)
    except TrpoDeployError:
        return None


def _unknown_wrappers(
    wrappers: Sequence[Mapping[str, Any]], allow_import: Sequence[str]
) -> list[str]:
    names = [name for each in wrappers for name in each if not _KNOWN_WRAPPERS.fullmatch(name)]
    return [name for name in names if wrapper_classes(name)[0] not in allow_import]


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


# --- memory ---------------------------------------------------------------------------------


def load_model(
    model: BaseAlgorithm | ActorCriticPolicy,
    vecnormalize: VecNormalize | None,
    options: SourceOptions,
) -> LoadedSource:
    """A model or a bare policy that is in memory.

    Of a model, the environment's wrappers are looked at, so that nothing has to be said about
    them. A bare policy has none.

    Raises:
        ExportError: no actor-critic policy.
        SpaceError: the statistics or the frame stack do not fit, or the image layout is unknown.
    """
    policy = model.policy if isinstance(model, BaseAlgorithm) else model
    if not isinstance(policy, ActorCriticPolicy):
        kind = type(policy).__name__
        raise ExportError(f"{kind} cannot be exported; supported: {SUPPORTED}")
    env = model.get_env() if isinstance(model, BaseAlgorithm) else None
    own = getattr(model, "get_vec_normalize_env", lambda: None)()
    statistics = vecnormalize if vecnormalize is not None else own
    found = Wrapping() if env is None else _wrapping_of(env)
    # Our own TRPO has them where SB3 was given other spaces than the environment's.
    observation_space = getattr(model, "env_observation_space", None)
    action_space = getattr(model, "env_action_space", None)
    wrapping = Wrapping(
        options.image_layout or found.image_layout, options.frame_stack or found.frame_stack
    )
    weights = [each.detach().cpu().numpy().tobytes() for each in policy.state_dict().values()]
    return LoadedSource(
        reference=SB3Policy(
            policy,
            statistics,
            policy.observation_space if observation_space is None else observation_space,
            policy.action_space if action_space is None else action_space,
            wrapping,
        ),
        algorithm=type(model).__name__,
        has_std=True,
        env_id=_env_id(env),
        env_kwargs={},
        env_wrapper=(),
        sha256={"weights": sha256(b"".join(weights)).hexdigest()},
        sb3_version=version("stable-baselines3"),
        training={"timesteps": getattr(model, "num_timesteps", 0)},
    )


def _wrapping_of(env: Any) -> Wrapping:
    stack = unwrap_vec_wrapper(env, VecFrameStack)
    frame_stack = stack.stacked_obs.n_stack if isinstance(stack, VecFrameStack) else 1
    transpose = unwrap_vec_wrapper(env, VecTransposeImage)
    transposed = isinstance(transpose, VecTransposeImage) and not transpose.skip
    return Wrapping("hwc" if transposed else "chw", frame_stack)


def _env_id(env: Any) -> str | None:
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    try:
        (spec, *_) = env.get_attr("spec")
        return None if spec is None else str(spec.id)
    except (AttributeError, TypeError, ValueError):
        return None
