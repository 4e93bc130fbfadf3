"""Play a trained policy in its environment and count the returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trpo_deploy.envs.environment import Environment, find_environment
from trpo_deploy.envs.episode import Act, play
from trpo_deploy.envs.spaces import space_from_gymnasium
from trpo_deploy.envs.wrappers import wrapper_classes
from trpo_deploy.errors import ConfigError, ModelDirError
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.source import changed_sources, find_onnx, find_source
from trpo_deploy.files.yaml import read_yaml
from trpo_deploy.play.video import record_episode
from trpo_deploy.sb3.from_files import load_source
from trpo_deploy.sb3.source import SourceOptions
from trpo_deploy.spec.spaces import Array, DictSpace


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
    allow_import: Sequence[str] = (),
    video: Path | None = None,
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
        allow_import: for ``torch``, classes of the user's own, as ``module:Class``, that the policy
            zip may name; they are run.
        video: an MP4 file to show the first of these episodes in.

    Raises:
        ConfigError: no environment is known.
        ModelDirError: there is no such file, or it is not of the policy that is beside it now.
        EnvError: the environment cannot be made, does not fit the policy, or has no pictures.
    """
    if backend == "onnx":
        act, environment = _onnx(model, env_id, deterministic)
    else:
        act, environment = _torch(model, env_id, deterministic, allow_import)
    if video is not None:
        record_episode(environment, act, seed, video)
    returns = play(environment, act, range(seed, seed + episodes)).returns
    return Evaluation(environment.env_id, environment.note, returns)


def _onnx(model: Path, env_id: str | None, deterministic: bool) -> tuple[Act, Environment]:
    # Here and not above: whoever trains in Python has no use for 18 MB of onnxruntime.
    from trpo_deploy.runtime import OnnxPolicy

    file = find_onnx(model)
    policy, config = OnnxPolicy(file), ModelDir(file.parent).config
    changed = changed_sources(file, policy.spec.source_sha256)
    if changed:
        raise ModelDirError(
            f"{file} was exported before {' and '.join(changed)} beside it changed; run "
            f"trpo-deploy export {file.parent}, or evaluate the policy itself with --backend torch"
        )
    environment = find_environment(
        _known(env_id or policy.spec.env_id, model),
        _setting(config, "env_kwargs") or {},
        policy.spec.observation_space,
        policy.spec.action_space,
        _setting(config, "env_wrapper"),
        # A file that has frames to remember takes them one by one.
        None if policy.spec.states else _setting(config, "frame_stack"),
    )
    return lambda obs, state: policy.predict(obs, state, None, deterministic), environment


def _torch(
    model: Path, env_id: str | None, deterministic: bool, allow_import: Sequence[str]
) -> tuple[Act, Environment]:
    source = find_source(model)
    # The wrappers of a run of ours may be of any package, as they were in the training.
    wrappers = None if source.model_dir is None else _setting(source.config, "env_wrapper")
    allowed = (*allow_import, *wrapper_classes(wrappers))
    reading = SourceOptions(env_id=env_id, allow_import=allowed)
    loaded = load_source(source, reading)
    policy = loaded.reference
    action_space = space_from_gymnasium(policy.action_space)
    assert not isinstance(action_space, DictSpace)
    known = _known(env_id or loaded.env_id, model)
    environment, _ = loaded.environment(known, (policy.frame_space, action_space))
    assert environment is not None  # one that is asked for is found, or an error
    return (
        lambda obs, state: policy.predict(obs, state, deterministic=deterministic),
        environment,
    )


def _setting(config: Path | None, name: str) -> Any:
    """Of the run's configuration, if it has one."""
    return read_yaml(config).get(name) if config is not None and config.is_file() else None


def _known(env_id: str | None, model: Path) -> str:
    if env_id is None:
        raise ConfigError(f"{model} does not tell its environment; name it with --env")
    return env_id
