"""Read request bodies: bounded for each request, and for all requests of a worker together."""

from __future__ import annotations

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.messages import Receive
from trpo_deploy.serve.settings import Settings


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class BodyReader:
    """Reads the bodies of one worker, and counts the bytes that it holds for them.

    Args:
        settings: The limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_bytes = settings.max_body_bytes
        self._max_bytes_in_flight = settings.max_bytes_in_flight
        self._held = 0
        """Bytes of the bodies that are arriving or are not answered yet."""

    async def read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """Read the body of a request. Call :meth:`release` when it is answered.

        A body that arrived at once is never refused for the bytes in flight. Small requests are
        therefore answered while large ones wait for their rest.

        Raises:
            RequestError: The body is too long or compressed, or too many bytes are in flight.
            ClientGoneError: The client disconnected.
        """
        if b"content-encoding" in headers:
            raise _compressed(headers[b"content-encoding"])
        length = headers.get(b"content-length")
        # The digits are counted first: int() refuses numbers of thousands of digits.
        if length is not None and (len(length) > 15 or int(length) > self._max_bytes):
            raise self._too_large()
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            return await self._read_rest(body, receive)
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        if len(body) > self._max_bytes:
            raise self._too_large()
        self.hold(body)
        return body

    def hold(self, body: bytes) -> None:
        """Count a complete body until :meth:`release`."""
        self._held += len(body)

    def release(self, body: bytes) -> None:
        """Stop counting a body: its request is answered."""
        self._held -= len(body)

    async def _read_rest(self, start: bytes, receive: Receive) -> bytes:
        chunks = [start]
        size = 0
        more = True
        try:
            while True:
                size += len(chunks[-1])
                self._held += len(chunks[-1])
                self._check_size(size)
                if not more:
                    return b"".join(chunks)
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                chunks.append(message.get("body", b""))
                more = message.get("more_body", False)
        except BaseException:  # a cancelled task too
            self._held -= size
            raise

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise self._too_large()
        self.check_held()

    def check_held(self) -> None:
        """Check the bytes of all bodies.

        Raises:
            RequestError: Too many bytes are in flight (503).
        """
        if self._held > self._max_bytes_in_flight:
            raise RequestError.overloaded(
                f"{self._max_bytes_in_flight} bytes of request bodies are in flight; "
                "try again in a second"
            )

    def _too_large(self) -> RequestError:
        return RequestError(
            413,
            "body_too_large",
            f"the body is longer than {self._max_bytes} bytes; send fewer observations, or send "
            "them as binary",
            expected=f"at most {self._max_bytes} bytes",
            # Close: the unread rest of the body would be taken for the next request.
            headers=((b"connection", b"close"),),
        )


def _compressed(encoding: bytes) -> RequestError:
    return RequestError(
        415,
        "unsupported_encoding",
        "send the body uncompressed",
        field="content-encoding",
        expected="no such header",
        received=encoding.decode("latin-1")[:64],
    )
