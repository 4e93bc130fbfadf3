"""HTTP connections of a worker: uvicorn's protocol with limits on what arrives before a request.

uvicorn hands a request to the application when its headers are complete. Until then nothing else
limits what a client sends, so the limits on headers are here.
"""

from __future__ import annotations

import httptools
import websockets.http11
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.http.asgi import NOSNIFF
from trpo_deploy.serve.messages import JSON
from trpo_deploy.serve.metrics import count_error

MAX_HEADER_BYTES = 64 * 1024
"""Maximum size of request line and headers."""
MAX_HEADERS = 100
"""Maximum number of headers."""
MAX_PIPELINED = 64
"""Maximum number of requests that wait for the answer to an earlier one of their connection."""

# uvicorn lets websockets parse a handshake again. One limit must apply to both parsers.
websockets.http11.MAX_LINE_LENGTH = MAX_HEADER_BYTES


class Connection(HttpToolsProtocol):
    """One connection. It refuses with 431 what exceeds the limits on headers, and closes.

    Each WebSocket handshake gets an answer. Other upgrades are ignored: the request is answered
    over HTTP/1.1, as RFC 9110 (section 7.8) allows.
    """

    _unparsed_bytes = 0
    """Bytes received since the parser last reported complete headers or a part of a body. The
    parser may have to keep them, as with a header that does not end."""
    _refused = False

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._unparsed_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._handle_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            # What a callback raises arrives as the context of the parser's own error.
            refusal = error.__context__
            self._refuse(refusal if isinstance(refusal, RequestError) else _invalid_request())
        # Headers that are not complete, or that follow a body.
        if self._unparsed_bytes > MAX_HEADER_BYTES or len(self.headers or ()) > MAX_HEADERS:
            self._refuse(_headers_too_large())

    def _handle_upgrade(self, rest: bytes) -> None:
        if self.scope["method"] == "CONNECT":
            self._refuse(RequestError(405, "wrong_method", "this is not a proxy"))
        elif self._get_upgrade() == b"websocket":
            self._open_websocket()
        else:
            self.data_received(self._without_upgrade() + rest)

    def _without_upgrade(self) -> bytes:
        """The head of this request without its upgrade, for a parser that starts over.

        The parser takes what follows an upgrade for another protocol, and would skip the body.
        """
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        lines = [f"{self.scope['method']} ".encode() + self.url + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _open_websocket(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._refuse(_invalid_request("a WebSocket handshake came before the last answer"))
            return
        self.handle_websocket_upgrade()
        # websockets answers nothing if it cannot parse what httptools could.
        if not getattr(self.transport.get_protocol(), "handshake_initiated", False):
            self._refuse(_invalid_request("the WebSocket handshake is not valid"))

    def _refuse(self, error: RequestError) -> None:
        """Answer with an error and close the connection; earlier requests are answered first."""
        if self._refused:
            return
        self._refused = True
        count_error(error.code)
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.write(_error_response(error))
        elif not cycle.more_body:
            cycle.keep_alive = False
            return
        elif not (cycle.response_started or self.pipeline):
            # The body of this request is invalid, and its answer is the next one.
            self.transport.write(_error_response(error))
        self.transport.close()

    # Callbacks of the parser

    def on_headers_complete(self) -> None:
        """All headers are complete."""
        if len(self.headers) > MAX_HEADERS or (
            self._unparsed_bytes > MAX_HEADER_BYTES
            and len(self.url) + _size(self.headers) > MAX_HEADER_BYTES
        ):
            raise _headers_too_large()
        self._unparsed_bytes = 0
        if len(self.pipeline) >= MAX_PIPELINED:
            raise RequestError.overloaded(f"{MAX_PIPELINED} requests of this connection wait")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body arrived."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def _should_upgrade(self) -> bool:
        """Keep uvicorn from starting a request with an upgrade; :meth:`data_received` does."""
        return True


def _size(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def _headers_too_large() -> RequestError:
    return RequestError(
        431,
        "headers_too_large",
        f"send at most {MAX_HEADERS} headers and {MAX_HEADER_BYTES // 1024} KiB of them",
    )


def _invalid_request(message: str = "the request is not valid HTTP/1.1") -> RequestError:
    return RequestError(400, "invalid_http", message)


def _error_response(error: RequestError) -> bytes:
    body = error.to_json()
    headers = [
        (b"content-type", JSON),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        NOSNIFF,
    ]
    head = [name + b": " + value + b"\r\n" for name, value in headers]
    return b"".join([STATUS_LINE[error.status], *head, b"\r\n", body])
