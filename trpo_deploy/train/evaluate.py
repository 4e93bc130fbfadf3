"""Play a trained policy in its environment and count the returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trpo_deploy.environment import (
    Environment,
    find_environment,
    play,
    space_from_gymnasium,
)
from trpo_deploy.errors import ConfigError
from trpo_deploy.model_dir import ModelDir, find_onnx, find_source
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.sb3_policy import SB3Policy
from trpo_deploy.sb3_zip import read_policy_zip, read_vecnormalize
from trpo_deploy.spec import Array, DictSpace
from trpo_deploy.yaml_file import read_yaml


@dataclass(frozen=True)
class Evaluation:
    """Returns of a policy's episodes."""

    env_id: str
    note: str
    """Said where the environment is not the one of the training."""
    returns: Array
    """Sum of rewards of each episode, ``(episodes,)``."""


def evaluate(
    model: Path,
    *,
    backend: Literal["onnx", "torch"] = "onnx",
    env_id: str | None = None,
    episodes: int = 20,
    seed: int = 0,
    deterministic: bool = True,
) -> Evaluation:
    """Play episodes with seeds ``seed``, ``seed + 1``, ...

    Args:
        model: a model folder or, for ``onnx``, a ``policy.onnx``; for ``torch`` also a policy
            zip or an RL Zoo run folder.
        backend: the exported file, or Stable-Baselines3's own policy.
        env_id: the environment, if the model does not tell it.
        episodes: how many.
        seed: of the first episode.
        deterministic: the most likely action, or one drawn at random.

    Raises:
        ConfigError: no environment is known.
        EnvError: the environment cannot be made or does not fit the policy.
    """
    act, environment = (_onnx if backend == "onnx" else _torch)(model, env_id, deterministic)
    returns = play(environment, act, range(seed, seed + episodes)).returns
    return Evaluation(environment.env_id, environment.note, returns)


Act = Callable[[Array], Array]


def _onnx(model: Path, env_id: str | None, deterministic: bool) -> tuple[Act, Environment]:
    policy = OnnxPolicy(find_onnx(model))
    config = ModelDir(model).config
    environment = find_environment(
        _known(env_id or policy.spec.env_id, model),
        _env_kwargs(config if config.is_file() else None),
        policy.spec.observation_space,
        policy.spec.action_space,
    )
    return lambda obs: policy.predict(obs, deterministic=deterministic)[0], environment


def _torch(model: Path, env_id: str | None, deterministic: bool) -> tuple[Act, Environment]:
    source = find_source(model)
    policy_zip = read_policy_zip(source.policy_zip)
    statistics = None if source.vecnormalize is None else read_vecnormalize(source.vecnormalize)
    policy = SB3Policy(policy_zip.build_policy(), statistics)
    action_space = space_from_gymnasium(policy_zip.action_space)
    assert not isinstance(action_space, DictSpace)
    environment = find_environment(
        _known(env_id or source.env_id or _env_id(source.config), model),
        _env_kwargs(source.config),
        space_from_gymnasium(policy_zip.observation_space),
        action_space,
    )
    return lambda observations: policy.actions(observations, deterministic), environment


def _env_id(config: Path | None) -> str | None:
    return None if config is None else read_yaml(config).get("env_id")


def _env_kwargs(config: Path | None) -> dict[str, Any]:
    return {} if config is None else dict(read_yaml(config).get("env_kwargs") or {})


def _known(env_id: str | None, model: Path) -> str:
    if env_id is None:
        raise ConfigError(f"{model} does not tell its environment; name it with --env")
    return env_id
