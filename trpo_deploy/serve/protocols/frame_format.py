"""What the binary frames of a WebSocket contain, as its URL says."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.protocols.tensor import DTYPES
from trpo_deploy.spec.spaces import Array, DictSpace, Space

_FLAGS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """The numbers of a binary frame."""

    dtype: np.dtype[Any] | None = None
    """Little-endian; None for the dtype of the observation space."""
    batch: bool = False
    """Whether a frame has one or more observations, instead of exactly one."""

    @classmethod
    def from_query(cls, query: bytes, model: ServedModel) -> FrameFormat:
        """Read the query string of a URL.

        Raises:
            RequestError: A parameter is unknown, given twice, or its value is not possible for the
                model.
        """
        if not query:
            return cls()
        values = _parse(query)
        space = model.policy.spec.observation_space
        if isinstance(space, DictSpace):
            raise _refuse(
                next(iter(values)), f"no parameter: model {model.name!r} takes text frames", query
            )
        text = values.get("dtype")
        choices = {name: each for name, each in DTYPES.items() if space.accepts(each)}
        if text is not None and text not in choices:
            raise _refuse("dtype", f"one of {', '.join(choices)}", text)
        flag = values.get("batch", "false")
        if flag not in _FLAGS:
            raise _refuse("batch", "true or false", flag)
        return cls(None if text is None else choices[text], _FLAGS[flag])

    def read(self, data: bytes, model: ServedModel) -> Array:
        """The observation of a frame, or the batch of observations.

        Raises:
            RequestError: The frame has another size, or the model takes several arrays.
        """
        space = model.policy.spec.observation_space
        if isinstance(space, DictSpace):
            raise RequestError(
                422,
                "wrong_type",
                f"model {model.name!r} takes several arrays; send a text frame with "
                '{"observation": {KEY: ...}}',
                field="frame",
                expected=f"a text frame with the keys {list(space.spaces)}",
                received="a binary frame",
            )
        dtype = self.dtype or space.dtype.newbyteorder("<")
        size = dtype.itemsize * prod(space.shape)
        if len(data) == size and not self.batch:
            return np.frombuffer(data, dtype).reshape(space.shape)
        if self.batch and size and not len(data) % size:
            return np.frombuffer(data, dtype).reshape(-1, *space.shape)
        raise self._wrong_size(space, dtype, size, len(data))

    def _wrong_size(
        self, space: Space, dtype: np.dtype[Any], size: int, received: int
    ) -> RequestError:
        expected = f"a multiple of {size} bytes" if self.batch else f"{size} bytes"
        several = "" if self.batch else ", and for several observations in a frame ?batch=true"
        return RequestError(
            422,
            "wrong_size",
            f"a frame is expected to have {expected} ({dtype.name} of shape {space.shape} for each "
            f"observation), received {received}; for other numbers connect with ?dtype=NAME, such "
            f"as ?dtype=float64{several}",
            field="frame",
            expected=expected,
            received=f"{received} bytes",
        )


def _parse(query: bytes) -> dict[str, str]:
    """The parameters of a query string."""
    text = query.decode("latin-1")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=8)
    except ValueError as error:
        raise _refuse("query", "parameters such as dtype=float64&batch=true", text) from error
    values = dict(pairs)
    for name, _ in pairs:
        if name not in ("dtype", "batch"):
            raise _refuse(name, "only the parameters dtype and batch", name)
    if len(values) < len(pairs):
        raise _refuse("query", "each parameter once", text)
    return values


def _refuse(field: str, expected: str, received: object) -> RequestError:
    text = str(received)[:64]
    message = f"URL parameter {field[:64]}: expected {expected}, received {text!r}"
    return RequestError(
        422, "bad_parameter", message, field=field[:64], expected=expected, received=text
    )
