"""The error that a client receives when its request cannot be answered."""

from __future__ import annotations

import logging

import orjson

from trpo_deploy.errors import ObservationError

_MAX_TEXT = 1000
_log = logging.getLogger(__name__)


class RequestError(Exception):
    """An answer with a status other than 200, raised anywhere below the ASGI layer.

    Args:
        status: HTTP status.
        code: Short name of the kind of error; errors are counted by it.
        message: One line: what came, what was expected, what to do.
        field: The part of the request that is wrong.
        expected: What was expected there, as text.
        received: What came, as text.
        headers: Additional response headers.
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
        # The texts may quote the client, who may send any amount.
        self.message = message[:_MAX_TEXT]
        self.field = field and field[:_MAX_TEXT]
        self.expected = expected and expected[:_MAX_TEXT]
        self.received = received and received[:_MAX_TEXT]
        self.headers = headers

    @classmethod
    def from_observation_error(cls, error: ObservationError) -> RequestError:
        """The 422 answer to an observation that the policy does not accept."""
        return cls(
            422,
            f"observation_{error.kind}",
            str(error),
            field=error.field,
            expected=error.expected,
            received=error.received,
        )

    @classmethod
    def overloaded(cls, message: str) -> RequestError:
        """The 503 answer of a worker at its limit. It asks the client to retry after a second."""
        headers = ((b"retry-after", b"1"), (b"connection", b"close"))
        return cls(503, "overloaded", message, headers=headers)

    @classmethod
    def from_exception(cls, error: Exception, doing: str) -> RequestError:
        """The answer to any exception: itself, 413 if the memory is full, otherwise 500.

        Args:
            error: The exception that is being handled.
            doing: What failed, for the log.
        """
        if isinstance(error, RequestError):
            return error
        if isinstance(error, MemoryError):
            message = "the request takes more memory than there is; send fewer observations at once"
            return cls(413, "out_of_memory", message)
        _log.error("%s failed", doing, exc_info=error)
        return cls(500, "internal", "the service failed")

    def to_json(self) -> bytes:
        """The response body of every endpoint except those under ``/v2``."""
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
