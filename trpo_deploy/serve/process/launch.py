"""``serve``: check all inputs, then run the supervisor until a signal arrives."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trpo_deploy.errors import ServeError
from trpo_deploy.extras import require
from trpo_deploy.files.signing_key import load_public_key
from trpo_deploy.serve.http.hosts import hosts_of_listener
from trpo_deploy.serve.http.key_file import check_key_file
from trpo_deploy.serve.models.publisher import Publisher
from trpo_deploy.serve.models.store import new_store
from trpo_deploy.serve.process.grpc_socket import check_grpc_socket
from trpo_deploy.serve.process.listener import listen, url_of
from trpo_deploy.serve.process.logs import supervisor_logs
from trpo_deploy.serve.process.metric_files import create_metric_files
from trpo_deploy.serve.process.supervisor import Supervisor
from trpo_deploy.serve.process.tls import Certificate
from trpo_deploy.serve.process.zygote_process import ZygoteProcess
from trpo_deploy.serve.settings import Settings

_LISTED_NAMES = 10
"""Names in the line that says what is served; ``/models`` lists all."""
_log = logging.getLogger(__name__)


def serve(
    models: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 3000,
    grpc_port: int | None = None,
    workers: int = 1,
    tls: tuple[Path, Path] | None = None,
    **flags: Any,
) -> None:
    """Serve policies until SIGINT or SIGTERM.

    Args:
        models: Model folders, ONNX files, or folders of model folders.
        host: Address to listen on; ``0.0.0.0`` for all addresses of the machine.
        port: TCP port; 0 for any free one.
        grpc_port: TCP port for gRPC, which is off without it; 0 for any free one.
        workers: Number of processes; each has all models. One per core is enough.
        tls: PEM files of the certificate chain and its private key, for HTTPS.
        flags: Fields of :class:`Settings`. A field that is None or not given is taken from the
            environment if its variable is set.

    Raises:
        ServeError: The service cannot start.
        MissingExtraError: The extra ``serve`` is not installed.
    """
    require("serve")
    if workers < 1:
        raise ServeError(f"workers must be 1 or more, received {workers}")
    paths = tuple(path.absolute() for path in models)
    settings = Settings.with_flags(models=paths, **flags)
    hosts = hosts_of_listener(host, settings.allowed_hosts)
    settings = settings.model_copy(update={"allowed_hosts": hosts})
    with supervisor_logs(settings.log_format):
        _check(settings, tls)
        with (
            _listen(host, port, grpc_port) as listeners,
            create_metric_files(workers) as metrics,
            _published(settings) as publisher,
        ):
            views = publisher.view.models.items()
            names = [name for name, model in views if model.versions]
            workers_settings = settings.model_copy(update={"model_store": publisher.store})
            environment = {
                **os.environ,
                **workers_settings.to_environment(),
                "PROMETHEUS_MULTIPROC_DIR": str(metrics.folder),
                "BENTOML_DO_NOT_TRACK": "True",
                # gRPC's core writes lines of its own to the log, for each client that goes away.
                "GRPC_VERBOSITY": os.environ.get("GRPC_VERBOSITY", "NONE"),
            }
            if grpc_port is not None:
                check_grpc_socket(publisher.store, workers)
            url, *grpc = (url_of(each, tls=tls is not None) for each in listeners)
            and_grpc = f", gRPC at {grpc[0].partition('://')[2]}" if grpc else ""
            _log.info("starting %d worker%s for %s", workers, "s" * (workers > 1), url)

            def announce() -> None:
                docs = f"docs: {url}/docs"
                print(f"serving {_listed(names)} at {url} ({docs}){and_grpc}", flush=True)

            zygote = ZygoteProcess(listeners, environment, workers, tls)
            supervisor = Supervisor(
                zygote,
                listeners,
                workers,
                settings.stuck_worker_seconds,
                settings.drain_seconds,
                metrics,
                publisher,
            )
            supervisor.run(announce)


@contextmanager
def _listen(host: str, port: int, grpc_port: int | None) -> Iterator[list[socket.socket]]:
    """Listen for HTTP, and for gRPC if it has a port.

    Raises:
        ServeError: An address is invalid or in use, or both ports are the same.
    """
    if port and port == grpc_port:
        raise ServeError(f"--port and --grpc-port are both {port}; choose two ports")
    with listen(host, port) as http:
        if grpc_port is None:
            yield [http]
            return
        with listen(host, grpc_port, "--grpc-port") as grpc:
            yield [http, grpc]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _LISTED_NAMES
    return ", ".join(names[:_LISTED_NAMES]) + (f" and {more} more" if more > 0 else "")


@contextmanager
def _published(settings: Settings) -> Iterator[Publisher]:
    """Publish the models and their changes."""
    with new_store() as store:
        publisher = Publisher(settings, store)
        try:
            publisher.open()
            publisher.start()
            yield publisher
        finally:
            publisher.stop()


def _check(settings: Settings, tls: tuple[Path, Path] | None) -> None:
    """Raise errors here, once and clearly, that would otherwise occur in every worker."""
    if settings.tracing:
        from trpo_deploy.serve.tracing import check_protocol

        check_protocol()
    for key in settings.trusted_keys:
        load_public_key(key)
    for path in (settings.api_key_file, settings.admin_key_file):
        if path is not None:
            check_key_file(path)
    if tls is not None:
        Certificate(*tls)
