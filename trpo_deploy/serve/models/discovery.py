"""Find the models that paths name.

A model is one ``policy.onnx``, or a folder with numbered versions of it::

    models/cart/policy.onnx          version: the first twelve digits of the file's SHA-256
    models/ant/1/policy.onnx         versions "1" and "2"; the highest number is the latest
    models/ant/2/policy.onnx
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from trpo_deploy.errors import ServeError
from trpo_deploy.files.exported import find_onnx
from trpo_deploy.files.model_dir import ModelDir

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def find_models(paths: Iterable[Path]) -> dict[str, Path]:
    """Map model names to their ONNX file or folder of versions.

    A folder without a model of its own is searched for model folders.

    Raises:
        ModelDirError: A path has no ONNX file.
        ServeError: A name is not valid in a URL or occurs twice, or there is no model.
    """
    found: dict[str, Path] = {}
    for path in paths:
        for model in _models_in(path):
            name = _model_name(model)
            if not _NAME.fullmatch(name):
                raise ServeError(
                    f"{model} would be served as {name!r}; a name has at most 64 letters, digits, "
                    "'.', '_' and '-': rename the folder"
                )
            if name in found:
                raise ServeError(
                    f"{found[name]} and {model} would both be served as {name!r}; rename one folder"
                )
            found[name] = model
    if not found:
        raise ServeError("no model to serve; give a model folder or a policy.onnx")
    return found


def find_versions(model: Path) -> dict[str, Path]:
    """Map the versions of a model to ONNX files, oldest first.

    The version of a single file is ``""``: it follows from the content.
    """
    if model.suffix == ".onnx":
        return {"": model}
    return _numbered_versions(model) if model.is_dir() else {}


def _models_in(path: Path) -> Sequence[Path]:
    if not path.is_dir():
        return [find_onnx(path)]
    if ModelDir(path).onnx.is_file():
        return [ModelDir(path).onnx]
    if _numbered_versions(path):
        return [path]
    inside = [
        ModelDir(item).onnx if ModelDir(item).onnx.is_file() else item
        for item in sorted(path.iterdir())
        if item.is_dir() and (ModelDir(item).onnx.is_file() or _numbered_versions(item))
    ]
    return inside or [find_onnx(path)]


def _numbered_versions(folder: Path) -> dict[str, Path]:
    numbers = (int(item.name) for item in folder.iterdir() if _NUMBER.fullmatch(item.name))
    files = {str(number): ModelDir(folder / str(number)).onnx for number in sorted(numbers)}
    return {version: onnx for version, onnx in files.items() if onnx.is_file()}


def _model_name(model: Path) -> str:
    """The folder's name, or the file's stem if the file is not called ``policy.onnx``."""
    model = model.resolve()
    if model.is_dir():
        return model.name
    return model.parent.name if model.name == ModelDir(model.parent).onnx.name else model.stem
