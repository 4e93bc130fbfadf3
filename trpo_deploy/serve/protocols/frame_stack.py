"""What a policy remembers between requests, as text that the client carries.

So every worker and every replica can answer the next request of an episode. The text is the
state's arrays one after another, little-endian, in base64; it holds frames that the client sent
itself, so there is nothing in it to hide or to sign.
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

State: TypeAlias = tuple[Array, ...]


def state_to_text(state: State) -> bytes:
    """The text of a state: letters, digits, ``+``, ``/`` and ``=``."""
    return b64encode(b"".join(array.tobytes() for array in state))


def state_from_text(text: str, specs: Sequence[StateSpec], batch: int) -> State:
    """The state that a text holds.

    Args:
        text: as :func:`state_to_text` wrote it.
        specs: what the policy remembers.
        batch: the number of observations that it belongs to.

    Raises:
        RequestError: it is not the text of such a state.
    """
    sizes = [np.dtype(spec.input.dtype).itemsize * batch * prod(spec.input.shape) for spec in specs]
    try:
        data = b64decode(text, validate=True)
    except ValueError as error:
        raise _bad_state("the text of the last answer", "text that is no base64") from error
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
    """Refuse a state that would make an action of it NaN.

    Raises:
        RequestError: a number is NaN or infinite.
    """
    if not np.isfinite(array).all():
        raise _bad_state("finite numbers", "NaN or an infinity")


def _bad_state(expected: str, received: str) -> RequestError:
    return RequestError(
        422,
        "bad_state",
        f"state: expected {expected}, received {received}; leave it out to begin an episode",
        field="state",
        expected=expected,
        received=received,
    )
