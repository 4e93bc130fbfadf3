"""``trpo-deploy serve``: serve policies over HTTP and gRPC."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from trpo_deploy.cli.option_groups import option_groups
from trpo_deploy.cli.options import Models
from trpo_deploy.errors import ConfigError
from trpo_deploy.extras import require


class OutOfBounds(str, Enum):
    """What the service does with observations beyond a finite bound."""

    refuse = "refuse"
    clip = "clip"
    accept = "accept"


class LogFormat(str, Enum):
    """How the service writes its log."""

    text = "text"
    json = "json"


@dataclass(frozen=True)
class AccessOptions:
    """Who may call the service, over which transport, and whose models it serves."""

    api_key_file: Annotated[
        Path | None,
        typer.Option(help="File of API keys, one per line. Each request must send one of them."),
    ] = None
    admin_key_file: Annotated[
        Path | None,
        typer.Option(help="File of keys for /admin. Without it, /admin is off."),
    ] = None
    tls_cert: Annotated[
        Path | None, typer.Option(help="TLS certificate chain (PEM), for HTTPS.")
    ] = None
    tls_key: Annotated[
        Path | None, typer.Option(help="Private key (PEM) of the TLS certificate.")
    ] = None
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Web origin that may call the service. Repeatable."),
    ] = None
    trusted_key: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Public key (PEM); serve only models that are signed with one. Repeatable.",
        ),
    ] = None
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Another host name under which the service answers; * for any. Repeatable.",
            show_default="--host and localhost; any if --host is 0.0.0.0 or ::",
        ),
    ] = None

    def tls(self) -> tuple[Path, Path] | None:
        """Certificate and key.

        Raises:
            ConfigError: only one of them is given.
        """
        if self.tls_cert is not None and self.tls_key is not None:
            return self.tls_cert, self.tls_key
        if self.tls_cert is not None or self.tls_key is not None:
            raise ConfigError("--tls-cert and --tls-key belong together: give both or neither")
        return None


@option_groups
def serve(
    models: Models,
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = 3000,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port of the Open Inference Protocol over gRPC; 0 picks a free one.",
            show_default="no gRPC",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of worker processes.")] = 1,
    access: AccessOptions,
    out_of_bounds: Annotated[
        OutOfBounds | None,
        typer.Option(
            metavar="WHAT",
            help="refuse, clip or accept observations outside the space's bounds.",
            show_default="TRPO_DEPLOY_OUT_OF_BOUNDS, else refuse",
        ),
    ] = None,
    require_certificate: Annotated[
        bool | None,
        typer.Option(
            help="Refuse policies without a certificate.",
            show_default="only if they replace one with a certificate",
        ),
    ] = None,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(
            help="Log as readable lines or as JSON objects.",
            show_default="TRPO_DEPLOY_LOG_FORMAT, else text",
        ),
    ] = None,
    access_log: Annotated[
        bool | None,
        typer.Option(
            "--access-log", help="Log each HTTP request and gRPC call.", show_default=False
        ),
    ] = None,
    tracing: Annotated[
        bool | None,
        typer.Option(
            "--tracing",
            help="Send a span of each request to the address in OTEL_EXPORTER_OTLP_ENDPOINT.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve policies over HTTP, and optionally gRPC, with BentoML."""
    require("serve")
    from trpo_deploy.serve import serve as run

    run(
        models,
        host=host,
        port=port,
        grpc_port=grpc_port,
        workers=workers,
        tls=access.tls(),
        api_key_file=access.api_key_file,
        admin_key_file=access.admin_key_file,
        cors_origins=access.cors_origin and tuple(access.cors_origin),
        trusted_keys=access.trusted_key and tuple(access.trusted_key),
        allowed_hosts=access.allowed_host and tuple(access.allowed_host),
        out_of_bounds=out_of_bounds and out_of_bounds.value,
        require_certificate=require_certificate,
        log_format=log_format and log_format.value,
        access_log=access_log,
        tracing=tracing,
    )
