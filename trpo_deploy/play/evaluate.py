"""Play a trained policy in its environment and measure the returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.episode import Act, play
from trpo_deploy.envs.recorded import recorded_by_run, remake_environment
from trpo_deploy.envs.returns import cut_episodes
from trpo_deploy.envs.trust import imported_names, untrusted_names
from trpo_deploy.errors import EnvError, ModelDirError
from trpo_deploy.files.exported import changed_sources, find_onnx
from trpo_deploy.files.runs import Run, find_run, run_of_exported
from trpo_deploy.play.video import Tell, prepare_video, record_episode
from trpo_deploy.spec.environment import EnvironmentSpec
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import Array


@dataclass(frozen=True)
class Evaluation:
    """Returns of a policy's episodes."""

    env_id: str
    note: str
    """How the environment differs from the one of the training, and episodes that were cut."""
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
    tell: Tell = lambda _: None,
) -> Evaluation:
    """Play episodes with the seeds ``seed``, ``seed + 1``, ...

    Args:
        model: A model folder or a file in it. ``onnx`` plays its ``policy.onnx``. ``torch`` also
            takes a policy zip or an RL Zoo run folder.
        backend: The exported file, or Stable-Baselines3's own policy.
        env_id: The environment's id, instead of the recorded one. Arguments and wrappers stay.
        episodes: Number of episodes.
        seed: Seed of the first episode.
        deterministic: Whether to take the distribution's mode; otherwise a sample.
        allow_import: Classes that the files may import, as ``module:Class``. Their code runs.
        video: MP4, GIF or WebP file to write the first episode to.
        tell: Called with what is being done, for a user who waits.

    Raises:
        EnvError: No environment is known, or it cannot be made, does not fit the policy or names
            code that must not be imported. For a video: it cannot be rendered.
        ConfigError: The video's file name has another ending.
        MissingExtraError: The video's ffmpeg is not installed.
        ModelDirError: A file is missing, or the exported file is not of the policy next to it.
    """
    if video is not None:
        prepare_video(video)
    if backend == "onnx":
        act, environment = _onnx(model, env_id, deterministic, tuple(allow_import))
    else:
        act, environment = _torch(model, env_id, deterministic, tuple(allow_import))
    if video is not None:
        record_episode(environment, act, seed, video, tell)
    tell("playing 1 episode" if episodes == 1 else f"playing {episodes} episodes")
    played = play(environment, act, range(seed, seed + episodes))
    notes = (environment.note, cut_episodes(environment.env_id, played.cut, episodes))
    return Evaluation(environment.env_id, "; ".join(filter(None, notes)), played.returns)


def _onnx(
    model: Path, env_id: str | None, deterministic: bool, allow_import: tuple[str, ...]
) -> tuple[Act, Environment]:
    # Not at the top: training imports this module and does not need 18 MB of onnxruntime.
    from trpo_deploy.runtime import OnnxPolicy

    file = find_onnx(model)
    policy, run = OnnxPolicy(file), run_of_exported(file)
    spec = policy.spec
    changed = changed_sources(file, spec.source_sha256)
    if changed:
        raise ModelDirError(
            f"{file} was not exported from the {' and '.join(changed)} next to it; run "
            f"trpo-deploy export {file.parent}, or evaluate the policy itself with --backend torch"
        )
    recorded = _recorded(spec, run)
    if env_id is not None:
        recorded = EnvironmentSpec(env_id) if recorded is None else replace(recorded, id=env_id)
    if recorded is None:
        raise EnvError(f"the environment of {file} is unknown; name it with --env ID")
    trusted = allow_import
    if run is not None and untrusted_names(recorded, trusted):
        trusted += _names_of(run)
    environment = remake_environment(
        recorded,
        spec.observation_space,
        spec.action_space,
        asked=env_id is not None,
        trusted=trusted,
        stack_frames=not spec.states,
    )
    return lambda obs, state: policy.predict(obs, state, None, deterministic), environment


def _recorded(spec: PolicySpec, run: Run | None) -> EnvironmentSpec | None:
    """The environment of an exported file; of its run if the file has less than that."""
    recorded = spec.environment
    if recorded is not None and recorded.unrecorded is not None:
        return recorded
    if run is None:
        return recorded
    of_run = recorded_by_run(run.settings)
    same = recorded is None or recorded.id == of_run.id
    return of_run if same and of_run.id else recorded


def _torch(
    model: Path, env_id: str | None, deterministic: bool, allow_import: tuple[str, ...]
) -> tuple[Act, Environment]:
    # Not at the top: torch takes seconds to import, and an exported file is played without it.
    from trpo_deploy.sb3.from_files import load_source
    from trpo_deploy.sb3.source import SourceOptions

    run = find_run(model)
    options = SourceOptions(env_id=env_id, allow_import=(*allow_import, *_names_of(run)))
    loaded = load_source(run, options)
    policy = loaded.reference
    return (
        lambda obs, state: policy.predict(obs, state, deterministic=deterministic),
        loaded.environment(),
    )


def _names_of(run: Run) -> tuple[str, ...]:
    """Names that a model folder's own configuration imports, as its training did."""
    if run.model_dir is None:
        return ()
    return imported_names(recorded_by_run(run.settings))
