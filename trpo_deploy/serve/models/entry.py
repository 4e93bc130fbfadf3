"""One served model with all its versions, as last seen on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from trpo_deploy.errors import TrpoDeployError
from trpo_deploy.files.certificate import certificate_path
from trpo_deploy.files.signature import signature_path
from trpo_deploy.serve.models.discovery import find_versions
from trpo_deploy.serve.models.loading import load_model
from trpo_deploy.serve.models.served_model import ServedModel

FileStamp: TypeAlias = tuple[tuple[int, int, int], ...]
"""Inode, size and modification time (ns) of an ONNX file, its certificate and
its signature."""


@dataclass(frozen=True)
class VersionState:
    """One ONNX file of a model, as last seen."""

    stamp: FileStamp
    model: ServedModel | None
    """The loaded file, or its last good content."""
    error: str | None
    """Why the current content of the file is not served."""


class ModelEntry:
    """The versions of one model. Immutable: a change on disk makes a new entry.

    Args:
        path: The ONNX file or the folder of versions.
        states: State of each file by version, oldest first; ``""`` for a single file.

    Attributes:
        versions: Served models by version.
        latest: The newest of them.
        error: Why the content on disk is not what is served.
    """

    def __init__(self, path: Path, states: Mapping[str, VersionState]) -> None:
        self.path = path
        self.states = states
        models = [state.model for state in states.values() if state.model is not None]
        self.versions = {model.version: model for model in models}
        self.latest = models[-1] if models else None
        errors = [state.error for state in states.values() if state.error is not None]
        self.error = "; ".join(errors) or None

    @property
    def status(self) -> str:
        """``ready``, ``stale`` (older content is served than lies on disk) or ``failed``."""
        if self.error is None:
            return "ready"
        return "stale" if self.versions else "failed"

    def changed_on_disk(self) -> bool:
        """Whether a file was added, removed or changed since this entry was made."""
        stamps = {version: state.stamp for version, state in self.states.items()}
        return stamps != {
            version: _file_stamp(onnx) for version, onnx in find_versions(self.path).items()
        }


def load_entry(
    name: str,
    path: Path,
    old: ModelEntry | None,
    trusted_keys: Sequence[Path] = (),
    *,
    force: bool = False,
) -> ModelEntry:
    """Load the changed files of a model.

    Args:
        name: The model's name.
        path: The ONNX file or the folder of versions.
        old: The current entry. Its models stay served where loading fails.
        trusted_keys: With any, only files that are signed with one of them are loaded.
        force: Also load files that did not change.
    """
    states = {}
    latest = old.latest if old else None
    for version, onnx in find_versions(path).items():
        state = old.states.get(version) if old else None
        stamp = _file_stamp(onnx)  # taken before reading: the next look sees a later change
        if force or state is None or state.stamp != stamp:
            last_good = state.model if state else None
            state = _load_version(name, version, onnx, stamp, last_good, latest, trusted_keys)
        states[version] = state
    if not states and old is not None:
        error = f"{path} no longer has a policy"
        states = {key: replace(state, error=error) for key, state in old.states.items()}
    return ModelEntry(path, states)


def _load_version(
    name: str,
    version: str,
    onnx: Path,
    stamp: FileStamp,
    last_good: ServedModel | None,
    latest: ServedModel | None,
    trusted_keys: Sequence[Path],
) -> VersionState:
    try:
        return VersionState(stamp, load_model(name, version, onnx, latest, trusted_keys), None)
    except TrpoDeployError as error:
        return VersionState(stamp, last_good, str(error))


def _file_stamp(onnx: Path) -> FileStamp:
    stamps = []
    for file in (onnx, certificate_path(onnx), signature_path(onnx)):
        if file.is_file():
            stat = file.stat()
            stamps.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(stamps)
