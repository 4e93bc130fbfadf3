"""What a client hears when a request cannot be answered."""

from __future__ import annotations

import orjson

from trpo_deploy.errors import ObservationError

_LONGEST = 1000


class RequestError(Exception):
    """An answer other than 200, raised anywhere below the ASGI layer.

    Args:
        status: the HTTP status.
        code: a short name for the kind of error; errors are counted by it.
        message: one line: what came, what was expected, what to do.
        field: the part of the request that is wrong.
        expected: what was expected there, in words.
        received: what came, in words.
        headers: further response headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        expected: str | None = None,
        received: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        # Parts of a message may come from the client, who may send much.
        self.message = message[:_LONGEST]
        self.field = field and field[:_LONGEST]
        self.expected = expected and expected[:_LONGEST]
        self.received = received and received[:_LONGEST]
        self.headers = headers

    @classmethod
    def of_observation(cls, error: ObservationError) -> RequestError:
        """The answer to an observation that the policy does not take."""
        return cls(
            422,
            f"observation_{error.kind}",
            str(error),
            field=error.field,
            expected=error.expected,
            received=error.received,
        )

    def to_json(self) -> bytes:
        """The body, the same for every endpoint but those under ``/v2``."""
        return orjson.dumps(
            {
                "error": {
                    "code": self.code,
                    "message": self.message,
                    "field": self.field,
                    "expected": self.expected,
                    "received": self.received,
                }
            }
        )
