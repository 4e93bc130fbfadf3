"""``serve``: check all inputs, then run the supervisor until a signal arrives."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trpo_deploy.errors import ServeError
from trpo_deploy.extras import require
from trpo_deploy.serve.http.key_file import KeyFile
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.process.listener import listen, url_of
from trpo_deploy.serve.process.logs import supervisor_logs
from trpo_deploy.serve.process.metric_files import create_metric_files
from trpo_deploy.serve.process.supervisor import Supervisor
from trpo_deploy.serve.process.tls import Certificate
from trpo_deploy.serve.process.zygote_process import ZygoteProcess
from trpo_deploy.serve.settings import Settings

_log = logging.getLogger(__name__)


def serve(
    models: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 3000,
    workers: int = 1,
    tls: tuple[Path, Path] | None = None,
    **flags: Any,
) -> None:
    """Serve policies until SIGINT or SIGTERM.

    Args:
        models: Model folders, ONNX files, or folders of model folders.
        host: Address to listen on; ``0.0.0.0`` for all addresses of the machine.
        port: TCP port; 0 for any free one.
        workers: Number of processes; each has all models. One per core is enough.
        tls: PEM files of the certificate chain and its private key, for HTTPS.
        flags: Fields of :class:`Settings`. A field that is None or not given is taken from the
            environment if its variable is set.

    Raises:
        ServeError: The service cannot start.
        ModelDirError: A path has no ``policy.onnx``.
        MissingExtraError: The extra ``serve`` is not installed.
    """
    require("serve")
    if workers < 1:
        raise ServeError(f"workers must be 1 or more, received {workers}")
    paths = tuple(path.absolute() for path in models)
    settings = Settings.with_flags(models=paths, **flags)
    with supervisor_logs(settings.log_format):
        names = _check(settings, tls)
        with listen(host, port) as listener, create_metric_files(workers) as metrics:
            environment = {
                **os.environ,
                **settings.to_environment(),
                "PROMETHEUS_MULTIPROC_DIR": str(metrics.folder),
                "BENTOML_DO_NOT_TRACK": "True",
            }
            url = url_of(listener, tls=tls is not None)
            _log.info("starting %d worker%s for %s", workers, "s" * (workers > 1), url)

            def announce() -> None:
                print(f"serving {', '.join(names)} at {url} (docs: {url}/docs)", flush=True)

            zygote = ZygoteProcess(listener, environment, workers, tls)
            Supervisor(zygote, listener, workers, settings.stuck_worker_seconds, metrics).run(
                announce
            )


def _check(settings: Settings, tls: tuple[Path, Path] | None) -> list[str]:
    """Raise errors here, once and clearly, that would otherwise occur in every worker.

    Returns:
        The names of the models.
    """
    registry = Registry(settings.models)
    for entry in registry.entries.values():
        if entry.error is not None:
            raise ServeError(entry.error)
    for path in (settings.api_key_file, settings.admin_key_file):
        if path is not None:
            KeyFile(path)
    if tls is not None:
        Certificate(*tls)
    return list(registry.entries)
