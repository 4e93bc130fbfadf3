"""The policies that are served: found on disk, loaded, checked, and swapped when they change.

A model is one ``policy.onnx``, or a folder with numbered versions of it::

    models/cart/policy.onnx          version: the first twelve digits of the file's SHA-256
    models/ant/1/policy.onnx         versions "1" and "2"; the highest number is the latest
    models/ant/2/policy.onnx

What a request holds is never changed: a swap puts a new :class:`ServedModel` in the old one's
place, and requests in flight end with the one that they began with.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TypeAlias

from trpo_deploy.errors import ServeError, TrpoDeployError
from trpo_deploy.files.certificate import certificate_path
from trpo_deploy.files.exported import find_onnx
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.models.served_model import ServedModel, load_model

LATEST = "latest"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_log = logging.getLogger(__name__)

Stamp: TypeAlias = tuple[tuple[int, int, int], ...]
"""Inode, size and time of change of an ONNX file and of its certificate."""


def find_models(paths: Iterable[Path]) -> dict[str, Path]:
    """Names of the models that paths name, each with its ONNX file or folder of versions.

    A folder that is no model itself stands for the models in it.

    Raises:
        ModelDirError: a path has no ONNX file.
        ServeError: a name that cannot be part of a URL, or one that comes twice.
    """
    found: dict[str, Path] = {}
    for path in paths:
        for model in _models_in(path):
            name = _name(model)
            if not _NAME.fullmatch(name):
                raise ServeError(
                    f"{model} would be served as {name!r}; a name has letters, digits, '.', '_' "
                    "and '-', at most 64 of them: rename the folder"
                )
            if name in found:
                raise ServeError(
                    f"{found[name]} and {model} would both be served as {name!r}; rename one folder"
                )
            found[name] = model
    if not found:
        raise ServeError("no model to serve; give a model folder or a policy.onnx")
    return found


def _models_in(path: Path) -> Sequence[Path]:
    """The ONNX files and folders of versions that a path stands for."""
    if not path.is_dir():
        return [find_onnx(path)]
    if ModelDir(path).onnx.is_file():
        return [ModelDir(path).onnx]
    if _numbered(path):
        return [path]
    inside = [
        ModelDir(item).onnx if ModelDir(item).onnx.is_file() else item
        for item in sorted(path.iterdir())
        if item.is_dir() and (ModelDir(item).onnx.is_file() or _numbered(item))
    ]
    return inside or [find_onnx(path)]


def _numbered(folder: Path) -> dict[str, Path]:
    """ONNX files of a folder's numbered versions, the oldest first."""
    numbers = (int(item.name) for item in folder.iterdir() if _NUMBER.fullmatch(item.name))
    files = {str(number): ModelDir(folder / str(number)).onnx for number in sorted(numbers)}
    return {version: onnx for version, onnx in files.items() if onnx.is_file()}


def _name(model: Path) -> str:
    """The model folder's name; for a file of another name than an export's, that name."""
    model = model.resolve()
    if model.is_dir():
        return model.name
    return model.parent.name if model.name == ModelDir(model.parent).onnx.name else model.stem


@dataclass(frozen=True)
class Version:
    """One ONNX file of a model, as it was when it was last looked at."""

    stamp: Stamp
    model: ServedModel | None
    """What is served of it: the file's content, or what it was before it went bad."""
    error: str | None
    """Why the file's content is not what is served."""


class Slot:
    """All that is known of one model; never changed, replaced as a whole.

    Args:
        path: the ONNX file, or the folder of versions.
        states: its files by version; ``""`` for a single file. The oldest first.

    Attributes:
        versions: what is served, by version.
        latest: the newest of it.
        error: why what lies on disk is not what is served.
    """

    def __init__(self, path: Path, states: Mapping[str, Version]) -> None:
        self.path = path
        self.states = states
        models = [state.model for state in states.values() if state.model is not None]
        self.versions = {model.version: model for model in models}
        self.latest = models[-1] if models else None
        errors = [state.error for state in states.values() if state.error is not None]
        self.error = "; ".join(errors) or None

    @property
    def state(self) -> str:
        """``ready``, ``stale`` (an older content is served than lies on disk) or ``failed``."""
        if self.error is None:
            return "ready"
        return "stale" if self.versions else "failed"

    def changed(self) -> bool:
        """Whether a file came, went or changed since."""
        stamps = {version: state.stamp for version, state in self.states.items()}
        return stamps != {version: _stamp(onnx) for version, onnx in _files(self.path).items()}


class Registry:
    """The served models by name.

    Args:
        paths: model folders, ONNX files, or folders of model folders.

    Raises:
        ModelDirError: a path has no ONNX file.
        ServeError: a name that cannot be part of a URL, or one that comes twice.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._lock = Lock()
        self._trouble: str | None = None
        self._slots = {name: _fill(name, path, None) for name, path in find_models(paths).items()}

    @property
    def slots(self) -> Mapping[str, Slot]:
        """What is known of each model."""
        return self._slots

    def refresh(self) -> None:
        """Load what changed on disk since the last look; what fails to load changes nothing."""
        with self._lock:
            for name, path in self._on_disk().items():
                slot = self._slots.get(name)
                if slot is None or slot.changed():
                    self._put(name, path)

    def load(self, name: str) -> ServedModel:
        """Load a model again, whether or not its files changed.

        Returns:
            The latest version, now served.

        Raises:
            RequestError: there is no such model (404), or it was refused and the old one is
                still served (409).
        """
        with self._lock:
            path = self._on_disk().get(name)
            if path is None:
                raise self._unknown(name)
            slot = self._put(name, path, again=True)
        if slot.error is not None or slot.latest is None:
            raise RequestError(
                409,
                "model_refused",
                f"the files of model {name!r} were refused, what was served before still is: "
                f"{slot.error}",
                field="model",
            )
        return slot.latest

    def get(self, name: str | None, version: str | None = None) -> ServedModel:
        """The model of a name, or the only one.

        Args:
            name: may be left out where one model is served.
            version: one that is loaded; the latest if left out.

        Raises:
            RequestError: there is none of that name or version (404), or it could not be
                loaded (503).
        """
        if name is None:
            name = self._only_name()
        slot = self._slots.get(name)
        if slot is None:
            raise self._unknown(name)
        model = slot.latest if version in (None, LATEST) else slot.versions.get(version or "")
        if model is not None:
            return model
        if not slot.versions:
            raise RequestError(
                503,
                "model_not_loaded",
                f"model {name!r} could not be loaded: {slot.error}",
                field="model",
            )
        loaded = ", ".join([*slot.versions, LATEST])
        raise RequestError(
            404,
            "unknown_version",
            f"model {name!r} has no version {str(version)[:64]!r}; loaded are {loaded}",
            field="version",
            expected=f"one of {loaded}",
            received=str(version)[:64],
        )

    def _put(self, name: str, path: Path, *, again: bool = False) -> Slot:
        slot = _fill(name, path, self._slots.get(name), again=again)
        # Not in place: the event loop may be looking through the old ones.
        self._slots = {**self._slots, name: slot}
        if slot.error is None:
            _log.info("model %s: now serving %s", name, ", ".join(slot.versions))
        else:
            _log.warning("model %s: %s", name, slot.error)
        return slot

    def _only_name(self) -> str:
        if len(self._slots) == 1:
            return next(iter(self._slots))
        raise RequestError(
            422,
            "model_missing",
            f"several models are served; name one of {sorted(self._slots)}",
            field="model",
            expected=f"one of {sorted(self._slots)}",
            received="no model",
        )

    def _unknown(self, name: str) -> RequestError:
        return RequestError(
            404,
            "unknown_model",
            f"no model {name[:64]!r}; served are {sorted(self._slots)}",
            field="model",
            expected=f"one of {sorted(self._slots)}",
            received=name[:64],
        )

    def _on_disk(self) -> dict[str, Path]:
        """The known models, and those that came since into a folder of models."""
        known = {name: slot.path for name, slot in self._slots.items()}
        found: dict[str, Path] = {}
        trouble = None
        try:
            found = find_models(self._paths)
        except (TrpoDeployError, OSError) as error:
            trouble = str(error)
        if trouble is not None and trouble != self._trouble:  # said once, not at every look
            _log.warning("looking for new models: %s", trouble)
        self._trouble = trouble
        return {**found, **known}


def _files(path: Path) -> dict[str, Path]:
    """ONNX files by version; a single file has its version from its content."""
    if path.suffix == ".onnx":
        return {"": path}
    return _numbered(path) if path.is_dir() else {}


def _stamp(onnx: Path) -> Stamp:
    stamps = []
    for file in (onnx, certificate_path(onnx)):
        if file.is_file():
            stat = file.stat()
            stamps.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(stamps)


def _fill(name: str, path: Path, old: Slot | None, *, again: bool = False) -> Slot:
    """Load a model's files that changed, or all of them again."""
    states = {}
    latest = old.latest if old else None
    for version, onnx in _files(path).items():
        state = old.states.get(version) if old else None
        stamp = _stamp(onnx)  # before reading: a change meanwhile is seen at the next look
        if again or state is None or state.stamp != stamp:
            kept = state.model if state else None
            state = _load(name, version, onnx, stamp, kept, latest)
        states[version] = state
    if not states and old is not None:
        error = f"{path} has no policy any more"
        states = {key: replace(state, error=error) for key, state in old.states.items()}
    return Slot(path, states)


def _load(
    name: str,
    version: str,
    onnx: Path,
    stamp: Stamp,
    kept: ServedModel | None,
    latest: ServedModel | None,
) -> Version:
    """Load one file; if it is bad, what was served of it before stays."""
    try:
        return Version(stamp, load_model(name, version, onnx, latest), None)
    except TrpoDeployError as error:
        return Version(stamp, kept, str(error))
