"""The run that a file or folder belongs to: the policy, its statistics and its configuration.

Three layouts are known:

- a model folder of ours (:class:`~trpo_deploy.files.model_dir.ModelDir`),
- RL Zoo's: ``ENV_1/{ENV,best_model,rl_model_N_steps}.zip`` next to
  ``ENV_1/ENV/{config.yml,args.yml,vecnormalize.pkl}``,
- the Hugging Face Hub's, written by RL Zoo: ``ALGO-ENV.zip`` next to ``config.yml``, ``args.yml``,
  ``env_kwargs.yml`` and ``vec_normalize.pkl``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from trpo_deploy.errors import ConfigError, ModelDirError
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.names import ONNX, ZIP, check_utf8, folders_with, meant, stem
from trpo_deploy.files.statistics import find_statistics, is_checkpoint
from trpo_deploy.files.vec_env_wrapper import stacked_frames
from trpo_deploy.files.yaml import read_yaml

_HUB_METRICS = "train_eval_metrics.zip"
"""RL Zoo puts it next to the policy on the Hugging Face Hub."""


@dataclass(frozen=True)
class RunSettings:
    """What a run's configuration says about the environment and the normaliser."""

    env_id: str | None = None
    """The Gymnasium id. RL Zoo's layout names the zip after it."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of ``gymnasium.make``."""
    env_wrapper: Any = None
    """Wrappers around the environment; see :func:`trpo_deploy.envs.wrappers.wrapper_list`."""
    frame_stack: int = 1
    """Observations that are stacked into one; 1 without a stack."""
    normalizes: bool = False
    """Whether observations are normalised, so that the policy needs statistics."""


@dataclass(frozen=True)
class Run:
    """The files of a trained policy."""

    policy_zip: Path
    """The policy in Stable-Baselines3's zip format."""
    config: Path | None
    """The configuration: ours (``config.yaml``) or RL Zoo's (``config.yml``)."""
    evaluations: Path | None
    """Evaluation returns of the training, in SB3's layout."""
    model_dir: ModelDir | None
    """The model folder; ``None`` for a run of RL Zoo and for a zip on its own."""
    folders: tuple[Path, ...] = ()
    """Folders of RL Zoo's configurations that may be the policy's."""
    chosen_statistics: Path | None = None
    """Statistics that the user named."""

    @cached_property
    def vecnormalize(self) -> Path | None:
        """Statistics of the normaliser: those that the user named, else those with the policy.

        Raises:
            ModelDirError: There are several to choose from.
        """
        return self.chosen_statistics or find_statistics(self.policy_zip, self.folders)

    @cached_property
    def settings(self) -> RunSettings:
        """The configuration, read once.

        Raises:
            ConfigError: The configuration cannot be read.
        """
        if self.config is None:
            return RunSettings()
        values = read_yaml(self.config)
        if self.model_dir is not None:
            return _settings(self.config, values, values.get("env_id"))
        in_zoo = self.config.parent in self.folders
        return _zoo_settings(self.config, values, self.config.parent.name if in_zoo else None)


def find_run(source: Path, vecnormalize: Path | None = None) -> Run:
    """Find the run of a policy zip, an exported file, a model folder or an RL Zoo run folder.

    Args:
        source: The file or folder. ``best/`` and the files in it belong to the run around them.
        vecnormalize: Statistics to use instead of those that the layout tells.

    Raises:
        ModelDirError: A path does not exist, the folder has several policies to choose from, or
            a file's name is not UTF-8.
    """
    if not source.exists():
        raise ModelDirError(
            f"{source} does not exist; {meant(source, ZIP)}"
            "give a policy zip, a model folder or an RL Zoo run folder"
        )
    if vecnormalize is not None and not vecnormalize.is_file():
        raise ModelDirError(
            f"{vecnormalize} does not exist; --vecnormalize takes a statistics file"
        )
    if source.is_dir():
        found = _run_of_folder(source)
    elif source.suffix == ".onnx":
        found = _run_with_policy(source)
    else:
        found = _run_of_zip(source)
    for path in filter(None, (found.policy_zip, vecnormalize)):
        check_utf8(path)
    return replace(found, chosen_statistics=vecnormalize)


def run_of_exported(onnx: Path) -> Run | None:
    """The run that an exported file lies in, if any. Its policy zip may be missing."""
    name = stem(onnx, ONNX)
    for policy_zip in (onnx.with_name(name + ZIP), onnx.with_name(name)):
        # SB3 adds no .zip to a name with a dot.
        if policy_zip != onnx and policy_zip.is_file():
            return _run_of_zip(policy_zip)
    run = _run_of_model_dir(ModelDir(onnx.parent))
    return None if run.config is None else run


def _run_with_policy(onnx: Path) -> Run:
    run = run_of_exported(onnx) or _run_of_model_dir(ModelDir(onnx.parent))
    if not run.policy_zip.is_file():
        raise ModelDirError(
            f"{onnx} is an exported file without its policy.zip; give a policy zip, a model "
            "folder or an RL Zoo run folder"
        )
    return run


def _run_of_folder(folder: Path) -> Run:
    model_dir = ModelDir(folder)
    if model_dir.policy_zip.is_file():
        return _run_of_model_dir(model_dir)
    zips = sorted(path for path in folder.glob("*.zip") if path.name != _HUB_METRICS)
    # RL Zoo keeps its best model and checkpoints next to the zip that has a configuration.
    zips = [
        path for path in zips if (path.with_name(stem(path, ZIP)) / "config.yml").is_file()
    ] or zips
    if len(zips) != 1:
        raise ModelDirError(f"{folder} {_without_policy(model_dir, zips)}")
    return _run_of_zip(zips[0])


def _without_policy(folder: ModelDir, zips: Sequence[Path]) -> str:
    """What a folder lacks, and what to give instead."""
    if zips:
        found = ", ".join(path.name for path in zips)
        return f"has several zips and none is policy.zip; give one of them: {found}"
    if folder.config.is_file():
        best = folder.best.root
        instead = f"; the best so far is {best}" if folder.best.policy_zip.is_file() else ""
        return f"has no policy.zip yet: a run writes it when it ends or is stopped{instead}"
    return f"has no policy zip; {folders_with(folder.policy_zip) or 'give the policy zip itself'}"


def _run_of_zip(policy_zip: Path) -> Run:
    model_dir = ModelDir(policy_zip.parent)
    if policy_zip.name == model_dir.policy_zip.name:
        return _run_of_model_dir(model_dir)
    folders = _zoo_folders(policy_zip)
    beside_it = policy_zip.with_name("config.yml")
    return Run(
        policy_zip=policy_zip,
        config=_if_file(folders[0] / "config.yml" if len(folders) == 1 else beside_it),
        evaluations=_if_file(policy_zip.with_name("evaluations.npz")),
        model_dir=None,
        folders=folders,
    )


def _zoo_folders(policy_zip: Path) -> tuple[Path, ...]:
    """The folders of RL Zoo's configurations that may be the policy's."""
    own = policy_zip.with_name(stem(policy_zip, ZIP))
    if any((own / name).is_file() for name in ("config.yml", "vecnormalize.pkl")):
        return (own,)
    if policy_zip.name != "best_model.zip" and not is_checkpoint(policy_zip):
        return ()
    return tuple(sorted(path.parent for path in policy_zip.parent.glob("*/config.yml")))


def _run_of_model_dir(model_dir: ModelDir) -> Run:
    run, root = model_dir, model_dir.root.resolve()
    if root.name == "best" and not model_dir.config.is_file():
        run = ModelDir(root.parent)  # its configuration is in the folder above
    return Run(
        policy_zip=model_dir.policy_zip,
        config=_if_file(run.config),
        evaluations=_if_file(run.evaluations),
        model_dir=model_dir,
    )


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _zoo_settings(config: Path, values: Mapping[str, Any], name: str | None) -> RunSettings:
    """Settings of a configuration of RL Zoo; ``name`` is its folder's, which tells the id."""
    arguments = _values_of(config.with_name("args.yml"))
    env_id = arguments.get("env")
    # Of the id module:Name/Other-v0 the folder has Name-Other-v0. On the Hub it has any name.
    if name is not None and name != str(env_id).rpartition(":")[2].replace("/", "-"):
        env_id = name
    env_kwargs = (
        values.get("env_kwargs")
        or arguments.get("env_kwargs")
        or _values_of(config.with_name("env_kwargs.yml"))
    )
    settings = _settings(config, {**values, "env_kwargs": env_kwargs}, env_id)
    n_stack = stacked_frames(values.get("vec_env_wrapper"), config)
    if n_stack > 1 and settings.frame_stack > 1:
        raise ConfigError(
            f"{config} stacks frames twice, with vec_env_wrapper and with frame_stack; "
            "expected one of them"
        )
    return replace(settings, frame_stack=max(n_stack, settings.frame_stack))


def _values_of(path: Path) -> dict[str, Any]:
    return read_yaml(path) if path.is_file() else {}


def _settings(config: Path, values: Mapping[str, Any], env_id: Any) -> RunSettings:
    env_kwargs = values.get("env_kwargs") or {}
    if not isinstance(env_kwargs, Mapping):
        raise ConfigError(f"{config}: env_kwargs={env_kwargs!r}: expected a mapping")
    frame_stack = values.get("frame_stack") or 1
    if not isinstance(frame_stack, int) or frame_stack < 1:
        raise ConfigError(f"{config}: frame_stack={frame_stack!r}: expected an integer above zero")
    return RunSettings(
        env_id=None if env_id is None else str(env_id),
        env_kwargs=dict(env_kwargs),
        env_wrapper=values.get("env_wrapper"),
        frame_stack=frame_stack,
        normalizes=_normalizes(values.get("normalize", False)),
    )


def _normalizes(normalize: Any) -> bool:
    """Whether the setting ``normalize`` turns the normaliser of observations on."""
    if isinstance(normalize, str):  # RL Zoo: "{'norm_obs': False}" or "dict(norm_obs=False)"
        return re.search(r"norm_obs\W+False", normalize) is None
    if isinstance(normalize, dict):
        return bool(normalize.get("norm_obs", True))
    return bool(normalize)
