"""The child process in which files are tried before they are served.

:class:`trpo_deploy.serve.models.trial.Trial` starts it as ``python -m
trpo_deploy.serve.process.trial FD``, with the settings in its environment. ``FD`` is a socket with
one JSON object a line: a :class:`Candidate` comes, an :class:`Outcome` goes back. Before a file is
tried its content key is sent, so that it is known even if the trial does not survive it.

A trial serves the file alone, from a store of its own, as a worker would: it answers the requests
whose answers contain text of the file.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from trpo_deploy.errors import ServeError, SignatureError, TrpoDeployError
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.signature import check_signature
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.serve.http.access import AccessControl
from trpo_deploy.serve.http.router import Router
from trpo_deploy.serve.messages import Reply, Request
from trpo_deploy.serve.models.checks import check_model
from trpo_deploy.serve.models.graph import check_graph
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.models.source import read_source
from trpo_deploy.serve.models.trial import TRIALS, Candidate, Outcome
from trpo_deploy.serve.models.view import (
    LoadResult,
    ModelView,
    View,
    content_key,
    one_line,
    view_path,
)
from trpo_deploy.serve.settings import Settings

_ALARM_FACTOR = 2
"""The parent ends a trial in time. The alarm ends one whose parent was killed."""
_MAX_LISTED_BYTES = 64 * 1024
"""What one model may take of the list of all models."""
_MEMORY_FACTOR = 8
"""Address space for a trial, in sizes of the largest file: it is parsed and copied some times."""


def main(descriptor: int) -> None:
    """Try files until the other end of the socket closes."""
    # A terminal sends Ctrl-C to the whole process group; the end of the socket ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = Settings()
    with socket.socket(fileno=descriptor) as parent, parent.makefile("rb") as lines:

        def send(value: Mapping[str, object]) -> None:
            parent.sendall(json.dumps(value).encode() + b"\n")

        room = _TrialRoom(settings, lambda key: send({"read": key}))
        _limit_resources(settings)
        send({})  # ready
        for line in lines:
            signal.setitimer(signal.ITIMER_REAL, _ALARM_FACTOR * settings.trial_seconds)
            send(vars(room.run(Candidate(**json.loads(line)))))
            signal.setitimer(signal.ITIMER_REAL, 0)


def _limit_resources(settings: Settings) -> None:
    # A crash and onnxruntime's own log would print lines that name no model.
    null = os.open(os.devnull, os.O_WRONLY)
    for standard in (1, 2):
        os.dup2(null, standard)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + _MEMORY_FACTOR * settings.max_model_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class _TrialRoom:
    """Tries files in a folder of the store."""

    def __init__(self, settings: Settings, on_read: Callable[[str], None]) -> None:
        assert settings.model_store is not None
        self._settings = settings
        self._store = settings.model_store
        self._room = settings.model_store / TRIALS
        self._on_read = on_read

    def run(self, candidate: Candidate) -> Outcome:
        """Try a file. Any exception is an error of the file."""
        onnx, key = Path(candidate.onnx), None
        try:
            files = read_source(onnx, self._settings.max_model_bytes)
            key = content_key(files)
            if key == candidate.known:
                return Outcome(key, same=True)
            self._on_read(key)
            content = files[ModelDir(self._room).onnx.name]
            check_graph(content, onnx)
            (self._room / key).mkdir(parents=True)
            for name, data in files.items():
                (self._room / key / name).write_bytes(data)
            if self._settings.trusted_keys:
                self._check_signature(onnx, self._room / key)
            version = candidate.version or sha256(content).hexdigest()[:12]
            self._check(candidate, version, key)
            if not (self._store / key).exists():
                (self._room / key).rename(self._store / key)
            return Outcome(key, version)
        except TrpoDeployError as error:
            return Outcome(key, error=one_line(error))
        except Exception as error:
            return Outcome(key, error=one_line(f"{onnx} cannot be tried ({error!r})"))
        finally:
            shutil.rmtree(self._room, ignore_errors=True)

    def _check_signature(self, onnx: Path, folder: Path) -> None:
        """Check the copy that will be served; the source may change at any time."""
        try:
            check_signature(ModelDir(folder).onnx, self._settings.trusted_keys)
        except SignatureError as error:
            raise ServeError(str(error).replace(str(folder), str(onnx.parent))) from error

    def _check(self, candidate: Candidate, version: str, key: str) -> None:
        """Load the file as a worker does, check it, and make the answers that have its text."""
        view = View(models={candidate.name: ModelView(candidate.onnx, {version: key})})
        view_path(self._room).write_text(view.to_json())
        registry = Registry(self._room, lambda _: LoadResult(known=False))
        entry = registry.entries[candidate.name]
        if entry.latest is None:
            raise ServeError(str(entry.error))
        replaced = [ModelDir(self._store / old) for old in candidate.replaces]
        needs_certificate = self._settings.require_certificate
        if needs_certificate is None:
            needs_certificate = any(old.certificate.exists() for old in replaced)
        policies = [OnnxPolicy(old.onnx) for old in replaced]
        check_model(entry.latest, policies, needs_certificate=needs_certificate)
        access = AccessControl(self._settings)
        _check_answers(Router(registry, self._settings, access), candidate)


def _check_answers(router: Router, candidate: Candidate) -> None:
    name = candidate.name
    paths = ("/models", "/readyz", f"/models/{name}", "/docs.json", f"/v2/models/{name}")
    for path in paths:
        endpoint, model, version = router.find(path)
        assert endpoint is not None
        try:
            reply = endpoint.handler(Request({}, b"", model, version))
        except Exception as error:
            raise ServeError(
                f"{candidate.onnx} or its certificate has text that {endpoint.label} cannot show "
                f"({error!r})"
            ) from error
        assert isinstance(reply, Reply)
        if path == paths[0] and len(reply.body) > _MAX_LISTED_BYTES:
            raise ServeError(
                f"{candidate.onnx} takes {len(reply.body)} bytes in /models, expected at most "
                f"{_MAX_LISTED_BYTES}"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]))
