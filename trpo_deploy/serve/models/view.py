"""The published view: which models are served, and where their checked files are.

The publisher writes it to a folder, the store, and each worker reads it from there::

    store/view.json                  the view; replaced by a rename
    store/KEY/policy.onnx            a file that passed its trial
    store/KEY/certificate.json       its certificate, if it has one

``KEY`` is a hash of all files, so the content of a folder never changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias

from trpo_deploy.files.atomic import atomic_write

Status: TypeAlias = Literal["ready", "stale", "failed"]

_MAX_TEXT = 1000


@dataclass(frozen=True)
class ModelView:
    """One model."""

    path: str
    """Where the user has it, as text."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Content keys by version, oldest first: what is served."""
    error: str | None = None
    """Why what the user has is not what is served."""

    @property
    def status(self) -> Status:
        """``ready``, ``stale`` (other content is served than lies on disk) or ``failed``."""
        if self.error is None:
            return "ready"
        return "stale" if self.versions else "failed"


@dataclass(frozen=True)
class View:
    """All models. A higher generation is newer."""

    generation: int = 0
    models: Mapping[str, ModelView] = field(default_factory=dict)

    def to_json(self) -> str:
        """The view as JSON text."""
        return json.dumps(asdict(self))

    def write(self, store: Path) -> None:
        """Write the view to a store; a reader sees the old one or this one.

        Raises:
            ModelDirError: The file cannot be written.
        """
        atomic_write(view_path(store), self.to_json())

    @classmethod
    def read(cls, store: Path) -> View:
        """Read the view of a store.

        Raises:
            OSError: The store has no view.
        """
        value = json.loads(view_path(store).read_bytes())
        models = {name: ModelView(**model) for name, model in value["models"].items()}
        return cls(value["generation"], models)


@dataclass(frozen=True)
class LoadResult:
    """What came of the request to load a model."""

    known: bool
    """Whether there is such a model."""
    error: str | None = None
    """Why its files are not served."""
    generation: int = 0
    """The view that has the result."""


def view_path(store: Path) -> Path:
    """The file of a store's view."""
    return store / "view.json"


def content_key(files: Mapping[str, bytes]) -> str:
    """The key of a model's files, which are given by name."""
    digests = {name: sha256(content).hexdigest() for name, content in sorted(files.items())}
    return sha256(json.dumps(digests).encode()).hexdigest()


def one_line(text: object) -> str:
    """Text as one line that JSON and a terminal can show, of bounded length."""
    line = " ".join(str(text).split())
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    return shown[:_MAX_TEXT]
