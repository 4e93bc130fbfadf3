"""The exported file that a ``MODEL`` argument names, and whether it is up to date."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trpo_deploy.errors import ModelDirError
from trpo_deploy.files.atomic import file_sha256
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.names import ONNX, ZIP, folders_with, meant


def find_onnx(model: Path) -> Path:
    """The ONNX file that a ``MODEL`` argument names: the file itself, or the one in the folder.

    Raises:
        ModelDirError: There is no such file. The message says what to give or to do instead.
    """
    if model.is_file():
        if model.suffix == ".zip":
            raise ModelDirError(
                f"{model} is a policy zip, not an ONNX file; export it with: trpo-deploy export "
                f"{model}"
            )
        return model
    if not model.exists():
        raise ModelDirError(
            f"{model} does not exist; {meant(model, ONNX)}give a model folder or a policy.onnx"
        )
    onnx = ModelDir(model).onnx
    if onnx.is_file():
        return onnx
    inside = folders_with(onnx)
    if inside:
        raise ModelDirError(f"{model} has no {onnx.name}; {inside}")
    if (model / "golden.json").is_file():
        raise ModelDirError(
            f"{model} has the files of a target, which run in its own engine; give the {onnx.name} "
            "that they were exported from"
        )
    if not (ModelDir(model).config.is_file() or any(model.glob(f"*{ZIP}"))):
        raise ModelDirError(f"{model} has no {onnx.name}; give a model folder or a {onnx.name}")
    from trpo_deploy.files.runs import find_run  # reads YAML, which a robot does not have

    find_run(model)  # raises if there is no policy to export, or not yet
    raise ModelDirError(f"{model} has no {onnx.name}; write it with: trpo-deploy export {model}")


def finished_file(source: Path) -> Path | None:
    """The finished ONNX file that a ``SOURCE`` argument names; ``None`` for a trained policy.

    That is an ONNX file, or a folder with a ``policy.onnx`` and without a ``policy.zip``.
    """
    if source.is_file():
        return source if source.suffix == ONNX else None
    folder = ModelDir(source)
    return folder.onnx if folder.onnx.is_file() and not folder.policy_zip.is_file() else None


def changed_sources(onnx: Path, sources: Mapping[str, str]) -> list[str]:
    """Names of the files next to an ONNX file that differ from those it was exported from.

    Args:
        onnx: The exported file.
        sources: Hex SHA-256 by file name, as the file's spec says.
    """
    return [
        name
        for name, sha256 in sources.items()
        if (path := onnx.parent / name).is_file() and file_sha256(path) != sha256
    ]
