"""Looks for new and changed models, has them tried, and publishes those that passed.

One publisher serves all workers of a service, so they agree, and a replaced worker starts with the
same models. Whatever a folder holds is an error of that model. The last content that passed stays
in the store, also if the user's file is damaged or deleted.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic, time_ns

from trpo_deploy.errors import ServeError
from trpo_deploy.serve.models.discovery import FoundModel, find_models
from trpo_deploy.serve.models.source import FileStamp, file_stamp, is_recent
from trpo_deploy.serve.models.trial import Candidate, Trial, TrialError
from trpo_deploy.serve.models.view import LoadResult, ModelView, View, one_line
from trpo_deploy.serve.settings import Settings

LOOK_S = 1.0
"""Time between two looks, s."""
_KEEP_S = 60
"""Content that is no longer published stays this long, for workers that are behind."""
_STOP_S = 5
"""Time for the thread to notice that its child was killed."""
_MANY = 50
"""Trying more models takes seconds, so a line says that it goes on."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Version:
    """One ONNX file of a model, as last seen."""

    stamp: FileStamp | None
    """``None``: look at the content again."""
    tried: str | None
    """Content key of the last trial."""
    served: tuple[str, str] | None = None
    """Version and content key of the last content that passed."""
    error: str | None = None
    """Why the content of the last trial is not served."""


@dataclass(frozen=True)
class _Model:
    """One model, as last seen."""

    path: Path
    versions: Mapping[str, _Version]
    """By version; ``""`` for a single file."""
    error: str | None = None
    """What is wrong with the model as a whole."""

    @property
    def served(self) -> dict[str, str]:
        """Content keys by version."""
        return dict(each.served for each in self.versions.values() if each.served is not None)

    def view(self) -> ModelView:
        """What the workers see of it."""
        errors = [self.error, *(each.error for each in self.versions.values())]
        error = "; ".join(error for error in errors if error is not None)
        return ModelView(one_line(self.path), self.served, error or None)


class Publisher:
    """Publishes the models of the settings in a store.

    Args:
        settings: The paths of the models, and limits.
        store: The folder to publish in, of this publisher alone.
    """

    def __init__(self, settings: Settings, store: Path) -> None:
        self._paths = settings.models
        self.store = store
        self.trial = Trial(settings.model_copy(update={"model_store": store}))
        self._lock = Lock()
        self._stopped = Event()
        self._looked = False
        self._models: dict[str, _Model] = {}
        self._views: dict[str, ModelView] = {}
        self._changed = True
        self._unused: dict[str, float] = {}
        self._stored: set[str] = set()
        self._thread: Thread | None = None
        self._published_at = 0.0
        self.view = View()
        """What was published last."""

    def open(self) -> None:
        """The first look: publish, unless that would serve nothing.

        Raises:
            ServeError: A given path has no model, no model can be served, or models cannot be
                tried.
        """
        found = find_models(self._paths)
        wrong = [model.error for model in found.values() if model.given and model.error]
        if not found:
            wrong = ["no model to serve; give a model folder or a policy.onnx"]
        if wrong:
            raise ServeError("; ".join(wrong))
        if len(found) > _MANY:
            _log.info("trying %d models", len(found))
        with self._lock:
            self._look(found, report=False)
        models = self.view.models
        errors = {name: model.error for name, model in models.items() if model.error is not None}
        if len(models) == len(errors) == 1:
            raise ServeError(*errors.values())
        for name, error in errors.items():
            _log.warning("model %s: %s", name, error)
        if not any(model.versions for model in models.values()):
            raise ServeError(f"none of the {len(models)} models can be served; see the lines above")

    def start(self) -> None:
        """Look once a second, in a thread."""
        self._thread = Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and the child."""
        self._stopped.set()
        self.trial.kill()
        if self._thread is not None:
            self._thread.join(_STOP_S)
        self.trial.close()

    def look(self) -> None:
        """Try what is new or changed, and publish.

        Raises:
            TrialError: Models cannot be tried.
            ModelDirError: The view cannot be written.
        """
        with self._lock:
            self._look(find_models(self._paths))

    def load(self, name: str) -> LoadResult:
        """Try a model now, also if its files did not change.

        Raises:
            TrialError: Models cannot be tried.
            ModelDirError: The view cannot be written.
        """
        with self._lock:
            found = find_models(self._paths)
            if name not in found and name not in self._models:
                return LoadResult(known=False)
            self._look({name: found[name]} if name in found else {}, only=name)
            view = self.view.models.get(name)
            if view is None:
                return LoadResult(known=False)
            return LoadResult(True, view.error, self.view.generation)

    def _run(self) -> None:
        failure = None
        while not self._stopped.wait(LOOK_S):
            failure = self._look_or_log(failure)

    def _look_or_log(self, logged: str | None) -> str | None:
        """Look; return what failed, which is logged once. Nothing ends the thread."""
        try:
            self.look()
        except Exception as error:
            failure = one_line(error)
            if failure != logged:
                _log.error("cannot look for changed models: %s", failure)
            return failure
        return None

    def _look(
        self, found: Mapping[str, FoundModel], only: str | None = None, *, report: bool = True
    ) -> None:
        names = [only] if only is not None else [*dict.fromkeys([*found, *self._models])]
        for name in names:
            if self._stopped.is_set():
                return
            old = self._models.get(name)
            try:
                new = self._look_at(name, found.get(name), old, force=only is not None)
            except TrialError:
                raise
            except Exception as error:
                path = found[name].path if name in found else Path(name)
                new = replace(old or _Model(path, {}), error=one_line(repr(error)))
            if new is not old:
                self._change(name, new, report=report)
            if monotonic() - self._published_at > LOOK_S:  # one slow trial delays no other model
                self._publish()
        self._publish()
        self._looked = True
        self._remove_unused()
        self.trial.close_if_idle()

    def _change(self, name: str, model: _Model | None, *, report: bool) -> None:
        """Take over the state of a model, and log what is new for the workers."""
        old = self._views.get(name)
        if model is None:
            self._models.pop(name, None)
            new = self._views.pop(name, None)
            self._changed |= new is not None
            return
        self._models[name] = model
        new = self._views[name] = model.view()
        if new == old:
            return
        self._changed = True
        if report and new.error is not None and (old is None or new.error != old.error):
            _log.warning("model %s: %s", name, new.error)
        if report and new.error is None and self._looked:
            _log.info("model %s: now serving %s", name, ", ".join(new.versions))

    def _look_at(
        self, name: str, found: FoundModel | None, old: _Model | None, *, force: bool
    ) -> _Model | None:
        """The state of a model; ``None`` if it is gone and was never served."""
        if found is None or found.error is not None:
            path = old.path if old is not None else Path(name) if found is None else found.path
            if found is None and (old is None or not old.served):
                return None
            error = f"{path} no longer has a policy" if found is None else found.error
            served = {} if old is None else _without_errors(old.versions)
            new = _Model(path, served, one_line(error))
            return old if new == old else new
        before: Mapping[str, _Version] = {} if old is None else old.versions
        versions = {
            version: self._look_at_version(name, version, onnx, before, force=force)
            for version, onnx in found.versions.items()
        }
        if not any(version.served for version in versions.values()):
            versions = {**_without_errors(before), **versions}
        if old is not None and old == _Model(found.path, versions):
            return old
        return _Model(found.path, versions)

    def _look_at_version(
        self, name: str, version: str, onnx: Path, before: Mapping[str, _Version], *, force: bool
    ) -> _Version:
        old = before.get(version)
        now, stamp = time_ns(), file_stamp(onnx)  # before reading: the next look sees a change
        if old is not None and old.stamp == stamp and not force:
            return old
        served = [each.served for each in before.values() if each.served is not None]
        replaced = [served[-1] if served else None, old.served if old is not None else None]
        outcome = self.trial.run(
            Candidate(
                name,
                version,
                str(onnx),
                replaces=[each[1] for each in {*replaced} if each is not None],
                known=old.tried if old is not None and not force else None,
            )
        )
        settled = None if is_recent(stamp, now) else stamp
        if outcome.same:
            assert old is not None
            return replace(old, stamp=settled)
        if outcome.error is not None:
            served_before = None if old is None else old.served
            return _Version(settled, outcome.key, served_before, outcome.error)
        assert outcome.key
        self._stored.add(outcome.key)
        return _Version(settled, outcome.key, (outcome.version, outcome.key))

    def _publish(self) -> None:
        self._published_at = monotonic()
        if not self._changed:
            return
        view = View(self.view.generation + 1, dict(self._views))
        view.write(self.store)
        self.view = view
        self._changed = False

    def _remove_unused(self) -> None:
        """Remove content that no view has had for some time."""
        used = {key for model in self.view.models.values() for key in model.versions.values()}
        now = monotonic()
        self._unused = {key: self._unused.get(key, now) for key in self._stored - used}
        for key in [key for key, since in self._unused.items() if now - since > _KEEP_S]:
            shutil.rmtree(self.store / key, ignore_errors=True)
            self._stored.discard(key)


def _without_errors(versions: Mapping[str, _Version]) -> dict[str, _Version]:
    """What stays served of a model whose files are gone; they are tried when they return."""
    return {
        version: replace(each, stamp=None, tried=None, error=None)
        for version, each in versions.items()
        if each.served is not None
    }
