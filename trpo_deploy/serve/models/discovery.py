"""Find the models that paths name.

A model is one ``policy.onnx``, or a folder with numbered versions of it::

    models/cart/policy.onnx          version: the first twelve digits of the file's SHA-256
    models/ant/1/policy.onnx         versions "1" and "2"; the highest number is the latest
    models/ant/2/policy.onnx

A model has the name of its path as given. Symbolic links are followed but not resolved: a link
``live`` to ``releases/1`` is the model ``live``, also after it points to ``releases/2``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trpo_deploy.errors import ModelDirError
from trpo_deploy.files.exported import find_onnx
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.names import ONNX, ZIP, stem

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_POLICY = ModelDir(Path()).onnx.name


@dataclass(frozen=True)
class FoundModel:
    """One model on disk, not opened yet."""

    name: str
    """Name in URLs. If the path gives no valid name, its printable form."""
    path: Path
    versions: Mapping[str, Path] = field(default_factory=dict)
    """ONNX files by version, oldest first. The version of a single file is ``""``: it follows
    from the content."""
    error: str | None = None
    """Why nothing here can be served."""
    given: bool = False
    """Whether the path is one of those to serve, and not in a folder of models."""


def find_models(paths: Iterable[Path]) -> dict[str, FoundModel]:
    """Find models by name. A path that cannot be served is a model with an error.

    A folder without a model of its own is searched for model folders, except hidden ones.
    """
    found: dict[str, FoundModel] = {}
    for path in paths:
        for model in _find_in(path.absolute()):
            first = found.setdefault(model.name, model)
            if first is not model:
                error = (
                    f"{first.path} and {model.path} would both be served as {model.name!r}; "
                    "rename one folder"
                )
                key = ascii(str(model.path))[1:-1]
                found[key] = FoundModel(key, model.path, error=error, given=model.given)
    return found


def _find_in(path: Path) -> list[FoundModel]:
    """The model at a path, or the models in a folder. At least one."""
    try:
        versions = _versions_at(path)
        if not versions:
            inside = list(_find_inside(path)) if path.is_dir() else []
            if inside:
                return inside
            versions = {"": find_onnx(path)}
    except ModelDirError as error:
        return [FoundModel(_model_name(path), path, error=str(error), given=True)]
    except OSError as error:
        reason = f"cannot read {path}: {error.strerror}"
        return [FoundModel(_model_name(path), path, error=reason, given=True)]
    return [_named(_model_name(path), path, versions, given=True)]


def _find_inside(folder: Path) -> Iterator[FoundModel]:
    """The models in the folders of a folder."""
    with os.scandir(folder) as items:
        names = sorted(item.name for item in items if item.name[0] != "." and _is_folder(item))
    for name in names:
        path = folder / name
        try:
            versions = _versions_in(path)
        except OSError as error:
            yield FoundModel(_printable(name), path, error=f"cannot read {path}: {error.strerror}")
            continue
        if versions:
            yield _named(name, path, versions, given=False)


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a loop of links
        return False


def _versions_at(path: Path) -> dict[str, Path]:
    """The ONNX files of the model at a path; empty if there is no model.

    Something other than a file may have the name of a policy: opening it gives the error.
    """
    if not os.path.isdir(path):
        return {"": path} if os.path.lexists(path) and path.suffix != ZIP else {}
    return _versions_in(path)


def _versions_in(path: Path) -> dict[str, Path]:
    """The ONNX files of the model in a folder; empty if there is no model."""
    onnx = path / _POLICY
    if os.path.lexists(onnx):
        return {"": onnx}
    with os.scandir(path) as items:
        numbers = sorted(int(item.name) for item in items if _NUMBER.fullmatch(item.name))
    files = {str(number): path / str(number) / _POLICY for number in numbers}
    return {version: onnx for version, onnx in files.items() if os.path.lexists(onnx)}


def _named(name: str, path: Path, versions: dict[str, Path], *, given: bool) -> FoundModel:
    if _NAME.fullmatch(name):
        return FoundModel(name, path, versions, given=given)
    error = (
        f"{path} would be served as {name!r}; a name has at most 64 letters, digits, '.', '_' and "
        "'-', and begins with a letter or digit: rename the folder"
    )
    return FoundModel(_printable(name), path, error=error, given=given)


def _model_name(path: Path) -> str:
    """The folder's name, or the file's name without ``.onnx`` if it is not ``policy.onnx``."""
    if path.name == "..":  # the only part of a path that is no name
        path = path.resolve()
    if path.name == _POLICY and not os.path.isdir(path):
        return path.parent.name
    return stem(path, ONNX) if not os.path.isdir(path) else path.name


def _printable(name: str) -> str:
    """A name with escapes for what is not printable ASCII; different for different names."""
    return ascii(name)[1:-1]
