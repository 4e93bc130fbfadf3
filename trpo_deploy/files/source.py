"""The files that a ``SOURCE`` or ``MODEL`` argument stands for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from trpo_deploy.errors import ModelDirError

if sys.platform != "win32":
    pass
from trpo_deploy.files.atomic import file_sha256
from trpo_deploy.files.model_dir import ModelDir


def find_onnx(model: Path) -> Path:
    """The ONNX file that a ``MODEL`` argument names: the file itself, or the one in a folder.

    Raises:
        ModelDirError: there is none.
    """
    if model.is_file():
        if model.suffix == ".zip":
            raise ModelDirError(
                f"{model} is a policy zip and no ONNX file; export it with: trpo-deploy export "
                f"{model}"
            )
        return model
    if not model.exists():
        raise ModelDirError(f"{model} does not exist; give a model folder or a policy.onnx")
    onnx = ModelDir(model).onnx
    if not onnx.is_file():
        raise ModelDirError(f"{model} has no policy.onnx; make it with: trpo-deploy export {model}")
    return onnx


def changed_sources(onnx: Path, sources: Mapping[str, str]) -> list[str]:
    """Files beside an ONNX file that are not those any more that it was exported from.

    Args:
        onnx: the file.
        sources: what its spec says: SHA-256 by name.
    """
    beside = {name: onnx.parent / name for name in sources}
    return [
        name
        for name, path in beside.items()
        if path.is_file() and file_sha256(path) != sources[name]
    ]


@dataclass(frozen=True)
class PolicySource:
    """The files that a ``SOURCE`` argument stands for."""

    policy_zip: Path
    """The policy, in Stable-Baselines3's zip format."""
    vecnormalize: Path | None
    """Its normaliser's statistics, if there are any."""
    config: Path | None
    """The run's configuration: ours (``config.yaml``) or RL Zoo's (``config.yml``)."""
    env_id: str | None
    """The environment's id where the layout tells it (RL Zoo names the zip after it)."""
    evaluations: Path | None
    """Returns during the training, in SB3's layout."""
    model_dir: ModelDir | None
    """The model folder, if the source is one."""


def find_source(source: Path, vecnormalize: Path | None = None) -> PolicySource:
    """Find a policy and what belongs to it: a zip, a model folder, or a run folder of RL Zoo.

    RL Zoo's layout is ``ENV_1/ENV.zip`` beside ``ENV_1/ENV/{config.yml,vecnormalize.pkl}``.

    Args:
        source: path of the zip or folder.
        vecnormalize: statistics to use in place of those found by the layout.

    Raises:
        ModelDirError: nothing there, or more than one policy to choose from.
    """
    if not source.exists():
        raise ModelDirError(
            f"{source} does not exist; give a policy zip, a model folder or an RL Zoo run folder"
        )
    if vecnormalize is not None and not vecnormalize.is_file():
        raise ModelDirError(
            f"{vecnormalize} does not exist; --vecnormalize takes a statistics file"
        )
    found = _from_folder(source) if source.is_dir() else _from_zip(source)
    return found if vecnormalize is None else replace(found, vecnormalize=vecnormalize)


def _from_folder(folder: Path) -> PolicySource:
    model_dir = ModelDir(folder)
    if model_dir.policy_zip.is_file():
        return _from_zip(model_dir.policy_zip)
    zips = sorted(folder.glob("*.zip"))
    # RL Zoo leaves its best model and checkpoints beside the policy that has a configuration.
    zips = [path for path in zips if (path.with_suffix("") / "config.yml").is_file()] or zips
    if len(zips) != 1:
        found = ", ".join(path.name for path in zips) or "none"
        raise ModelDirError(
            f"{folder} holds neither policy.zip nor exactly one other zip (found: {found}); "
            "give the policy zip itself"
        )
    return _from_zip(zips[0])


def _from_zip(policy_zip: Path) -> PolicySource:
    model_dir = ModelDir(policy_zip.parent)
    if policy_zip.name == model_dir.policy_zip.name:
        # The pair of the best evaluation lies one folder below the run's configuration.
        run = ModelDir(model_dir.root.parent) if model_dir.root.name == "best" else model_dir
        return PolicySource(
            policy_zip=policy_zip,
            vecnormalize=_if_file(model_dir.vecnormalize),
            config=_if_file(run.config),
            env_id=None,
            evaluations=_if_file(run.evaluations),
            model_dir=model_dir,
        )
    configs = list(policy_zip.parent.glob("*/config.yml"))
    if policy_zip.name == "best_model.zip" and len(configs) == 1:
        zoo = configs[0].parent  # the configuration and statistics are the run's
    else:
        zoo = policy_zip.with_suffix("")
    config = _if_file(zoo / "config.yml")
    return PolicySource(
        policy_zip=policy_zip,
        vecnormalize=_if_file(zoo / "vecnormalize.pkl"),
        config=config,
        env_id=zoo.name if config is not None else None,
        evaluations=_if_file(policy_zip.with_name("evaluations.npz")),
        model_dir=None,
    )


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None
