"""What a service is told: its models, limits and keys.

Settings travel to the worker processes, and into a container, as environment variables
``TRPO_DEPLOY_<FIELD>``, so that ``bentoml serve`` and ``trpo-deploy serve`` start the same
service.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from trpo_deploy.errors import ServeError

OutOfBounds: TypeAlias = Literal["refuse", "clip", "accept"]

_PREFIX = "TRPO_DEPLOY_"


@dataclass(frozen=True)
class Settings:
    """Everything that a worker needs to know.

    Raises:
        ServeError: a number is negative, or a word is none of its choices.
    """

    models: tuple[Path, ...] = (Path("models"),)
    """Model folders or ONNX files, separated as in ``PATH``. A bundle has its own in ``models``."""
    max_body_bytes: int = 8 * 1024 * 1024
    """A longer request body or WebSocket message is refused with 413."""
    max_batch: int = 1024
    """Observations in one request."""
    max_concurrent: int = 512
    """Requests in flight, and WebSockets, in one worker; beyond it the answer is 503."""
    slow_client_seconds: int = 10
    """A connection on which a request takes longer than this to arrive is closed."""
    drain_seconds: int = 1
    """After SIGTERM: how long ``/readyz`` says no before the workers stop taking requests."""
    out_of_bounds: OutOfBounds = "refuse"
    """What happens to numbers beyond a finite bound of the observation space."""
    api_key_file: Path | None = None
    """Keys of which a client must show one; without it anyone may ask."""
    admin_key_file: Path | None = None
    """Keys for ``/admin``, which is off without it."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the service from a browser, by commas; ``*`` for any."""
    access_log: bool = False
    """Log every request, as BentoML does."""
    tracing: bool = False
    """Trace every request with OpenTelemetry, as BentoML does."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is int and value < 0:
                raise ServeError(f"{field.name} must not be negative, received {value}")
        if self.out_of_bounds not in get_args(OutOfBounds):
            choices = ", ".join(get_args(OutOfBounds))
            raise ServeError(f"out_of_bounds must be {choices}, received {self.out_of_bounds!r}")

    def changed(self, **changes: Any) -> Settings:
        """These settings with other values; a value that is the field's default changes nothing.

        So a flag that was not given does not undo what the environment says.
        """
        defaults = {field.name: field.default for field in fields(self)}
        given = {name: value for name, value in changes.items() if value != defaults[name]}
        return replace(self, **given)

    def to_environment(self) -> dict[str, str]:
        """The settings as environment variables."""
        return {
            _PREFIX + field.name.upper(): _to_text(getattr(self, field.name))
            for field in fields(self)
        }

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read what :meth:`to_environment` wrote; what is not set or empty keeps its default.

        Raises:
            ServeError: a variable does not hold what its field takes.
        """
        values = {}
        for field in fields(cls):
            variable = _PREFIX + field.name.upper()
            text = environment.get(variable)
            if text:
                values[field.name] = _from_text(text, field.default, variable)
        return cls(**values)


def _to_text(value: Any) -> str:
    if isinstance(value, tuple):
        separator = os.pathsep if value and isinstance(value[0], Path) else ","
        return separator.join(map(str, value))
    if isinstance(value, bool):
        return "1" if value else "0"
    return "" if value is None else str(value)


def _from_text(text: str, default: Any, variable: str) -> Any:
    """Read a value of the same kind as a field's default."""
    if isinstance(default, bool):
        if text not in ("0", "1"):
            raise ServeError(f"{variable} must be 0 or 1, received {text!r}")
        return text == "1"
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError as error:
            raise ServeError(f"{variable} must be a whole number, received {text!r}") from error
    if default is None:
        return Path(text)
    if isinstance(default, tuple) and default:
        return tuple(Path(item) for item in text.split(os.pathsep))
    if isinstance(default, tuple):
        return tuple(text.split(","))
    return text
