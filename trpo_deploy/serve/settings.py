"""Settings of a service: models, limits and keys.

Each field is read from an environment variable ``TRPO_DEPLOY_<FIELD>``. The supervisor passes
settings to its workers this way, so ``trpo-deploy serve``, ``bentoml serve`` and a container are
configured alike.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from trpo_deploy.errors import ServeError

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
    """Model folders or ONNX files; in the variable separated as in ``PATH``."""
    max_body_bytes: Count = 8 * 1024 * 1024
    """Maximum size of a request body and of a WebSocket message; larger ones get 413."""
    max_batch: Count = 1024
    """Maximum number of observations in one request."""
    max_concurrent: Count = 512
    """Maximum number of requests in flight, and of WebSockets, in one worker; then 503."""
    slow_client_seconds: Count = 10
    """Close a connection whose request takes longer than this to arrive."""
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
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose pages may call the service; in the variable separated by commas; ``*``: all."""
    log_format: LogFormat = "text"
    """``text``, or ``json``: one object a line."""
    access_log: bool = False
    """Log every request with BentoML's access log."""
    tracing: bool = False
    """Trace every request with OpenTelemetry."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"])) or "settings"
            raise ServeError(
                f"{name} ({ENV_PREFIX}{name.upper()}): {first['msg']}, received {first['input']!r}"
            ) from error

    @field_validator("models", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        return value.split(os.pathsep) if isinstance(value, str) else value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        return value.split(",") if isinstance(value, str) else value

    @classmethod
    def with_flags(cls, **flags: Any) -> Settings:
        """Settings from the environment, overridden by the flags that are not None."""
        return cls(**{name: value for name, value in flags.items() if value is not None})

    def to_environment(self) -> dict[str, str]:
        """The settings as environment variables; reading them gives equal settings."""
        return {ENV_PREFIX + name.upper(): _to_text(value) for name, value in self}


def _to_text(value: object) -> str:
    if isinstance(value, tuple):
        return (os.pathsep if value and isinstance(value[0], Path) else ",").join(map(str, value))
    return "" if value is None else str(value)
