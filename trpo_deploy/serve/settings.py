"""Settings of a service: models, limits and keys.

Each field is read from an environment variable ``TRPO_DEPLOY_<FIELD>``. The supervisor passes
settings to its workers this way, so ``trpo-deploy serve``, ``bentoml serve`` and a container are
configured alike.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from trpo_deploy.errors import ServeError
from trpo_deploy.serve.origin import check_host_name, check_origin

OutOfBounds: TypeAlias = Literal["refuse", "clip", "accept"]
LogFormat: TypeAlias = Literal["text", "json"]
Count: TypeAlias = Annotated[int, Field(ge=0)]

ENV_PREFIX = "TRPO_DEPLOY_"


class Settings(BaseSettings):
    """Settings of one service. Arguments take precedence over environment variables.

    Raises:
        ServeError: A value is not valid for its field.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    models: Annotated[tuple[Path, ...], NoDecode] = (Path("models"),)
    """Model folders or ONNX files; in the variable a JSON list, or separated as in ``PATH``."""
    model_store: Path | None = None
    """Folder of the published models, set by ``serve``. Without it, a process publishes its own."""
    require_certificate: bool | None = None
    """Refuse policies without a certificate; None: where the replaced one had a certificate."""
    max_model_bytes: Count = 512 * 1024 * 1024
    """Maximum size of a policy file."""
    trial_seconds: Annotated[float, Field(gt=0)] = 30
    """Refuse a file whose trial takes longer than this."""
    run_seconds: Annotated[float, Field(gt=0)] = 5
    """Stop a run of a policy that takes longer than this; the request gets 503."""
    max_body_bytes: Count = 8 * 1024 * 1024
    """Maximum size of a request body, a WebSocket message and a gRPC message; larger ones get 413
    or ``RESOURCE_EXHAUSTED``."""
    max_bytes_in_flight: Count = 64 * 1024 * 1024
    """Maximum size of all request bodies that a worker holds at a time, at least
    ``max_body_bytes``; then 503. Bodies that arrive at once are not refused. Also the maximum size
    of all unfinished WebSocket messages; then close code 1013. The same for gRPC messages; then
    their connection is closed."""
    max_batch: Count = 1024
    """Maximum number of observations in one request."""
    max_concurrent: Count = 512
    """Maximum number of requests in flight, of WebSockets, and of gRPC streams, in one worker; then
    503 or ``RESOURCE_EXHAUSTED``."""
    slow_client_seconds: Count = 10
    """Close a connection whose request takes longer than this to arrive, or whose client does not
    read its answer for this long."""
    drain_seconds: Count = 1
    """After SIGTERM, seconds during which ``/readyz`` answers 503 and requests are still served."""
    stuck_worker_seconds: Annotated[int, Field(ge=2)] = 10
    """Replace a worker whose event loop does not run for this long."""
    out_of_bounds: OutOfBounds = "refuse"
    """What to do with numbers outside a finite bound of the observation space."""
    api_key_file: Path | None = None
    """Keys of the clients; without the file no key is needed."""
    admin_key_file: Path | None = None
    """Keys for ``/admin``, which is disabled without the file."""
    trusted_keys: Annotated[tuple[Path, ...], NoDecode] = ()
    """Public keys (PEM). With any, only models that one of them signed are served; in the variable
    separated as in ``PATH``."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose pages may call the service; in the variable separated by commas; ``*``: all."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Host names under which the service answers, beside ``localhost`` and all addresses;
    separated like origins; ``*``: any name. Without names ``Host`` is not checked. ``serve`` adds
    the host that it listens on."""
    log_format: LogFormat = "text"
    """``text``, or ``json``: one object a line."""
    access_log: bool = False
    """Log every HTTP request and gRPC call, as BentoML's access log does."""
    tracing: bool = False
    """Send an OpenTelemetry span of every request to ``OTEL_EXPORTER_OTLP_ENDPOINT``."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ServeError(_describe(error)) from error

    @field_validator("models", "trusted_keys", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.startswith("["):
            with suppress(ValueError):  # then it is a path
                return json.loads(value)
        return value.split(os.pathsep)

    @field_validator("cors_origins", "allowed_hosts", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            check_origin(origin)
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            check_host_name(name)
        return tuple(name.lower() for name in value)

    @model_validator(mode="after")
    def _check_bytes(self) -> Settings:
        if self.max_bytes_in_flight < self.max_body_bytes:
            raise ValueError(
                f"max_bytes_in_flight is {self.max_bytes_in_flight}, less than max_body_bytes; "
                f"set {ENV_PREFIX}MAX_BYTES_IN_FLIGHT to {self.max_body_bytes} or more"
            )
        return self

    @classmethod
    def with_flags(cls, **flags: Any) -> Settings:
        """Settings from the environment, overridden by the flags that are not None."""
        return cls(**{name: value for name, value in flags.items() if value is not None})

    def to_environment(self) -> dict[str, str]:
        """The settings as environment variables; reading them gives equal settings."""
        return {ENV_PREFIX + name.upper(): _to_text(value) for name, value in self}


def _describe(error: ValidationError) -> str:
    """The first of the errors, with the field and its variable where it has one."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    place = f"{field} ({ENV_PREFIX}{field.upper()}): " if field else ""
    if first["type"] == "value_error":  # raised by the checks above, which name the value
        return f"{place}{first['ctx']['error']}"
    return f"{place}{first['msg']}, received {first['input']!r}"


def _to_text(value: object) -> str:
    if isinstance(value, tuple):
        if value and isinstance(value[0], Path):  # a path may contain every separator
            return json.dumps([str(path) for path in value])
        return ",".join(map(str, value))
    return "" if value is None else str(value)
