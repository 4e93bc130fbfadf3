"""The served models of a worker, by name.

A worker reads the published view only, and opens only files that passed their trial. A request
keeps the :class:`ServedModel` that it started with. A replacement takes effect with the next
request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.models.entry import ModelEntry
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.models.stored import load_stored
from trpo_deploy.serve.models.view import LoadResult, ModelView, View, one_line, view_path

LATEST = "latest"

_MAX_NAME = 255
"""Longest name of a folder. The publisher is not asked for a longer one that a client made up."""

_log = logging.getLogger(__name__)


class Registry:
    """The served models by name.

    Args:
        store: The folder of the published view.
        request_load: Asks the publisher to load a model now.

    Raises:
        OSError: The store has no view.
    """

    def __init__(self, store: Path, request_load: Callable[[str], LoadResult]) -> None:
        self._store = store
        self._request_load = request_load
        self._lock = Lock()
        self._view_stamp: tuple[int, int] | None = None
        self._by_content: dict[tuple[str, str, str], ServedModel] = {}
        self._entries: Mapping[str, ModelEntry] = {}
        self.generation = -1
        """Number of the view that is served."""
        self.refresh()

    @property
    def entries(self) -> Mapping[str, ModelEntry]:
        """All models, including those that failed to load."""
        return self._entries

    def refresh(self) -> None:
        """Serve the newest view. A model that cannot be opened keeps its previous content.

        Raises:
            OSError: The store has no view.
        """
        with self._lock:
            status = view_path(self._store).stat()
            stamp = (status.st_ino, status.st_mtime_ns)
            if stamp == self._view_stamp:
                return
            view = View.read(self._store)
            views, opened = view.models.items(), dict(self._by_content)
            entries = {name: self._open_entry(name, model, opened) for name, model in views}
            served = {id(model) for entry in entries.values() for model in entry.versions.values()}
            self._by_content = {key: model for key, model in opened.items() if id(model) in served}
            # A new mapping: the event loop's thread may be iterating over the old one.
            self._entries = entries
            self.generation = view.generation
            complete = all(
                entries[name].error == model.error for name, model in view.models.items()
            )
            self._view_stamp = stamp if complete else None  # else the next refresh tries again

    def load(self, name: str) -> ServedModel:
        """Have a model loaded again, even if its files did not change.

        Returns:
            The latest version, which is now served.

        Raises:
            RequestError: The model does not exist (404), or its files were refused and the old
                version is still served (409).
        """
        if len(name) > _MAX_NAME and name not in self._entries:
            raise self._unknown_model(name)
        result = self._request_load(name)
        if not result.known:
            raise self._unknown_model(name)
        self.refresh()
        entry = self._entries.get(name)
        if result.error is not None or entry is None or entry.latest is None:
            raise RequestError(
                409,
                "model_refused",
                f"the files of model {name!r} were refused, the previous version is still served: "
                f"{result.error}",
                field="model",
            )
        return entry.latest

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

    def _open_entry(
        self, name: str, model: ModelView, opened: dict[tuple[str, str, str], ServedModel]
    ) -> ModelEntry:
        """The entry of a published model; adds the models that it opens to ``opened``."""
        previous = self._entries.get(name, ModelEntry("failed"))
        versions, errors = {}, []
        for version, key in model.versions.items():
            content = (name, version, key)
            try:
                if content not in opened:
                    opened[content] = load_stored(self._store / key, name, version, model.path)
                versions[version] = opened[content]
            except Exception as error:  # such as no memory
                errors.append(one_line(error))
                if version in previous.versions:
                    versions[version] = previous.versions[version]
        if not errors:
            return ModelEntry(model.status, model.error, versions)
        kept = versions or previous.versions
        entry = ModelEntry("stale" if kept else "failed", "; ".join(errors), kept)
        if entry.error != previous.error:
            _log.error("model %s: %s", name, entry.error)
        return entry

    def _only_name(self) -> str:
        # Something odd beside the one good model must not be in the way of its clients.
        names = [name for name, entry in self._entries.items() if entry.versions]
        if len(names or self._entries) == 1:
            return next(iter(names or self._entries))
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
