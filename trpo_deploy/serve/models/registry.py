"""The served models by name, replaced atomically when their files change.

A request keeps the :class:`ServedModel` that it started with. A replacement takes effect with the
next request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from trpo_deploy.errors import TrpoDeployError
from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.models.discovery import find_models
from trpo_deploy.serve.models.entry import ModelEntry, load_entry
from trpo_deploy.serve.models.served_model import ServedModel

LATEST = "latest"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadResult:
    """What came of a request to load a model."""

    known: bool
    """Whether there is such a model."""
    error: str | None = None
    """Why its files were refused."""
    generation: int = 0
    """Workers with this generation, or a later one, have the result."""


class Registry:
    """The served models by name.

    Args:
        paths: Model folders, ONNX files, or folders of model folders.
        request_load: Has a model loaded by all workers; by default by this one.

    Raises:
        ModelDirError: A path has no ONNX file.
        ServeError: A name is not valid in a URL or occurs twice.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        request_load: Callable[[str], LoadResult] | None = None,
    ) -> None:
        self._paths = tuple(paths)
        self._request_load = request_load
        self._lock = Lock()
        self._search_error: str | None = None
        found = find_models(paths)
        self._entries = {name: load_entry(name, path, None) for name, path in found.items()}
        self.generation = 0
        """How often the served models have changed."""

    @property
    def entries(self) -> Mapping[str, ModelEntry]:
        """All models, including those that failed to load."""
        return self._entries

    def refresh(self) -> None:
        """Load what changed on disk. A file that fails to load replaces nothing."""
        with self._lock:
            for name, path in self._find_on_disk().items():
                entry = self._entries.get(name)
                if entry is None or entry.changed_on_disk():
                    self._replace(name, path)

    def load(self, name: str) -> ServedModel:
        """Load a model again, even if its files did not change.

        Returns:
            The latest version, which is now served.

        Raises:
            RequestError: The model does not exist (404), or its files were refused and the old
                version is still served (409).
        """
        if self._request_load is not None:
            return self._load_everywhere(name, self._request_load)
        with self._lock:
            path = self._find_on_disk().get(name)
            if path is None:
                raise self._unknown_model(name)
            entry = self._replace(name, path, force=True)
        if entry.error is not None or entry.latest is None:
            raise _refused(name, entry.error)
        return entry.latest

    def _load_everywhere(self, name: str, request: Callable[[str], LoadResult]) -> ServedModel:
        result = request(name)
        if not result.known:
            raise self._unknown_model(name)
        if result.error is not None:
            raise _refused(name, result.error)
        return self.get(name)

    def get(self, name: str | None, version: str | None = None) -> ServedModel:
        """Get a served model.

        Args:
            name: May be omitted if only one model is served.
            version: A loaded version; by default the latest.

        Raises:
            RequestError: The name or version does not exist (404), the name is needed (422), or
                the model failed to load (503).
        """
        if name is None:
            name = self._only_name()
        entry = self._entries.get(name)
        if entry is None:
            raise self._unknown_model(name)
        model = entry.latest if version in (None, LATEST) else entry.versions.get(version or "")
        if model is not None:
            return model
        if not entry.versions:
            raise RequestError(
                503,
                "model_not_loaded",
                f"model {name!r} could not be loaded: {entry.error}",
                field="model",
            )
        loaded = ", ".join([*entry.versions, LATEST])
        raise RequestError(
            404,
            "unknown_version",
            f"model {name!r} has no version {str(version)[:64]!r}; loaded are {loaded}",
            field="version",
            expected=f"one of {loaded}",
            received=str(version)[:64],
        )

    def _replace(self, name: str, path: Path, *, force: bool = False) -> ModelEntry:
        entry = load_entry(name, path, self._entries.get(name), force=force)
        # A new mapping: the event loop's thread may be iterating over the old one.
        self._entries = {**self._entries, name: entry}
        self.generation += 1
        if entry.error is None:
            _log.info("model %s: now serving %s", name, ", ".join(entry.versions))
        else:
            _log.warning("model %s: %s", name, entry.error)
        return entry

    def _only_name(self) -> str:
        if len(self._entries) == 1:
            return next(iter(self._entries))
        raise RequestError(
            422,
            "model_missing",
            f"several models are served; name one of {sorted(self._entries)}",
            field="model",
            expected=f"one of {sorted(self._entries)}",
            received="no model",
        )

    def _unknown_model(self, name: str) -> RequestError:
        return RequestError(
            404,
            "unknown_model",
            f"no model {name[:64]!r}; served are {sorted(self._entries)}",
            field="model",
            expected=f"one of {sorted(self._entries)}",
            received=name[:64],
        )

    def _find_on_disk(self) -> dict[str, Path]:
        """The known models, and new ones in a folder of models."""
        known = {name: entry.path for name, entry in self._entries.items()}
        found: dict[str, Path] = {}
        search_error = None
        try:
            found = find_models(self._paths)
        except (TrpoDeployError, OSError) as error:
            search_error = str(error)
        if search_error is not None and search_error != self._search_error:  # log it once
            _log.warning("cannot look for new models: %s", search_error)
        self._search_error = search_error
        return {**found, **known}


def _refused(name: str, error: str | None) -> RequestError:
    return RequestError(
        409,
        "model_refused",
        f"the files of model {name!r} were refused, the previous version is still served: {error}",
        field="model",
    )
