"""The state of a policy with stacked frames, as text that the client carries between requests.

Any worker and any replica can therefore answer the next request of an episode. The text is the
base64 encoding of the state's arrays, little-endian, one after another. It contains frames that
the client sent itself, so it needs no encryption and no signature.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from math import prod
from typing import TypeAlias

import numpy as np

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.spec.policy_spec import StateSpec
from trpo_deploy.spec.spaces import Array

PolicyState: TypeAlias = tuple[Array, ...]
"""One array for each :class:`StateSpec`, with the batch as first axis."""


def encode_state(state: PolicyState) -> bytes:
    """Encode a state as base64."""
    return b64encode(b"".join(array.tobytes() for array in state))


def decode_state(text: str, specs: Sequence[StateSpec], batch: int) -> PolicyState:
    """Decode the text of :func:`encode_state`.

    Args:
        text: The state as base64.
        specs: The policy's states.
        batch: Number of observations in the request.

    Raises:
        RequestError: The text is not such a state.
    """
    if not specs:
        raise _bad_state("no state, since the policy stacks no frames", "one")
    sizes = [np.dtype(spec.input.dtype).itemsize * batch * prod(spec.input.shape) for spec in specs]
    try:
        data = b64decode(text, validate=True)
    except ValueError as error:
        raise _bad_state("the state of the previous reply", "text that is not base64") from error
    if len(data) != sum(sizes):
        expected = f"the {sum(sizes)} bytes of a state for {batch} observations"
        raise _bad_state(expected, f"{len(data)} bytes")
    state = []
    for spec, size in zip(specs, sizes, strict=True):
        array = np.frombuffer(data[:size], spec.input.dtype).reshape(batch, *spec.input.shape)
        check_finite(array)
        state.append(array)
        data = data[size:]
    return tuple(state)


def check_finite(array: Array) -> None:
    """Refuse a state with NaN or infinity, which could make the action NaN.

    Raises:
        RequestError: A number is NaN or infinite.
    """
    if not np.isfinite(array).all():
        raise _bad_state("finite numbers", "NaN or infinity")


def _bad_state(expected: str, received: str) -> RequestError:
    return RequestError(
        422,
        "bad_state",
        f"state: expected {expected}, received {received}; leave it out to start an episode",
        field="state",
        expected=expected,
        received=received,
    )
