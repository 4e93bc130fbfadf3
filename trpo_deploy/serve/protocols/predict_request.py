"""The JSON body of ``/predict`` and of a WebSocket's text frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.protocols.json_io import type_name

_KEYS = frozenset({"observation", "model", "version", "deterministic", "state"})


@dataclass(slots=True)
class PredictRequest:
    """A request for an action."""

    observation: object
    model: str | None = None
    version: str | None = None
    deterministic: bool = True
    state: str | None = None
    """State from the previous reply of the episode, for a policy with stacked frames."""


def parse_predict_request(value: dict[str, Any]) -> PredictRequest:
    """Read a request from a JSON object.

    Raises:
        RequestError: A key is missing, unknown or of the wrong type.
    """
    if "observation" not in value:
        raise RequestError(
            422,
            "missing_key",
            'the body has no "observation"',
            field="observation",
            expected='an object such as {"observation": ...}',
            received=f"keys {sorted(value)[:8]}"[:200],
        )
    if not value.keys() <= _KEYS:
        extra = min(value.keys() - _KEYS)[:64]
        raise RequestError(
            422,
            "extra_key",
            f"the body has an unknown key {extra!r}",
            field=extra,
            expected=f"only the keys {sorted(_KEYS)}",
            received="an unknown key",
        )
    if len(value) == 1:
        return PredictRequest(value["observation"])
    return PredictRequest(
        value["observation"],
        _optional(value, "model", str, None),
        _optional(value, "version", str, None),
        _optional(value, "deterministic", bool, True),
        _optional(value, "state", str, None),
    )


def merge_body_and_path(key: str, in_body: str | None, in_path: str | None) -> str | None:
    """The value of a key that the body, the path, or both may give.

    Raises:
        RequestError: Both give it and they differ.
    """
    if in_path is None or in_body == in_path:
        return in_body
    if in_body is None:
        return in_path
    raise RequestError(
        422,
        "contradiction",
        f'the URL names the {key} {in_path[:64]!r}, the body {in_body[:64]!r}; leave "{key}" out',
        field=key,
        expected=in_path[:64],
        received=in_body[:64],
    )


def _optional(value: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    found = value.get(key, default)
    if found is default or type(found) is kind:
        return found
    raise RequestError(
        422,
        "wrong_type",
        f'"{key}" must be {type_name(kind)}',
        field=key,
        expected=type_name(kind),
        received=type_name(type(found)),
    )
