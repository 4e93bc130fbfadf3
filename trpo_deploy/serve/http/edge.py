"""The outermost ASGI layer: hot endpoints are answered here, the rest goes through BentoML.

BentoML's own stack (access log, tracing, metrics, time-out, routing) costs several times what
a small policy does, and lets anything through to it. Here a request meets its limits first and
takes the shortest way to the policy.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from functools import cached_property
from time import perf_counter

import orjson

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.http.access import KeyFile
from trpo_deploy.serve.http.endpoints import Endpoint, Endpoints, Guard
from trpo_deploy.serve.messages import (
    AsgiApp,
    ClientGoneError,
    Message,
    Receive,
    Reply,
    Request,
    Scope,
    Send,
    read_body,
    send_reply,
)
from trpo_deploy.serve.metrics import count_error, count_request, publish
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.protocols.batching import Gatherer, Question
from trpo_deploy.serve.protocols.websocket import LABEL, Conversation
from trpo_deploy.serve.settings import Settings

_BENTOML_PATHS: dict[str, Guard] = {
    "/metrics": "key",
    "/schema.json": "key",
    "/healthz": "open",
    "/static_content/swagger-ui.css": "open",
    "/static_content/swagger-ui-bundle.js": "open",
}
"""No others may pass: BentoML's metrics grow with each path that it sees."""
_INLINE_BYTES = 256 * 1024
"""Beyond it reading and running may take milliseconds, and a thread keeps the others served."""
_WATCH_S = 1.0
_RETRY_AFTER = ((b"retry-after", b"1"), (b"connection", b"close"))
_log = logging.getLogger(__name__)


class Edge:
    """An ASGI application around BentoML's.

    Args:
        inner: BentoML's application.
        settings: limits and key files.
        open_registry: gives the models, once the worker has started.

    Raises:
        ServeError: a key file cannot be used.
    """

    def __init__(
        self, inner: AsgiApp, settings: Settings, open_registry: Callable[[], Registry]
    ) -> None:
        self.inner = inner
        self._settings = settings
        self._open_registry = open_registry
        self._gatherer = Gatherer()
        self._in_flight = 0
        self._conversations = 0
        self._keys: dict[Guard, KeyFile] = {}
        if settings.api_key_file is not None:
            self._keys["key"] = KeyFile(settings.api_key_file)
        if settings.admin_key_file is not None:
            self._keys["admin"] = KeyFile(settings.admin_key_file)

    @cached_property
    def endpoints(self) -> Endpoints:
        """What the paths stand for; the models are loaded when it is first asked for."""
        return Endpoints(self._open_registry(), self._settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on to BentoML."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._lifespan(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        path: str = scope["path"]
        endpoint, name, version = self.endpoints.find(path)
        request = Request(dict(scope["headers"]), b"", name, version)
        try:
            if endpoint is None:
                await self._hand_on(request, scope, receive, send)
                return
            answer = await self._answer(endpoint, scope["method"], request, receive)
            reply = answer if isinstance(answer, Reply) else await self._gatherer.answer(answer)
        except RequestError as error:
            reply = _error_reply(error, path)
        except ClientGoneError:
            count_error("client_gone")
            return
        except Exception:
            _log.exception("answering %s failed", "unknown" if endpoint is None else endpoint.label)
            reply = _error_reply(RequestError(500, "internal", "the service failed"), path)
        await send_reply(send, reply)
        label = "unknown" if endpoint is None else endpoint.label
        count_request(label, reply.model, reply.status, perf_counter() - started)

    async def _answer(
        self, endpoint: Endpoint, method: str, request: Request, receive: Receive
    ) -> Reply | Question:
        if method != endpoint.method and (method, endpoint.method) != ("HEAD", "GET"):
            raise RequestError(
                405,
                "wrong_method",
                f"use {endpoint.method} here",
                expected=endpoint.method,
                received=method[:16],
                headers=((b"allow", endpoint.method.encode()),),
            )
        self._check_key(endpoint.guard, request.headers)
        if self._in_flight >= self._settings.max_concurrent and endpoint.guard != "open":
            raise RequestError(
                503,
                "overloaded",
                f"{self._in_flight} requests are in flight; try again in a second",
                headers=_RETRY_AFTER,
            )
        self._in_flight += 1
        try:
            limit = self._settings.max_body_bytes
            request.body = await read_body(request.headers, receive, limit)
            if endpoint.slow or len(request.body) > _INLINE_BYTES:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(None, _answer_now, endpoint, request)
            return endpoint.handler(request)
        finally:
            self._in_flight -= 1

    async def _hand_on(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        guard = _BENTOML_PATHS.get(scope["path"])
        if guard is None:
            raise RequestError(404, "unknown_path", "no such path; GET /docs lists what there is")
        self._check_key(guard, request.headers)
        publish()  # for /metrics; other workers' numbers are a second old at most
        await self.inner(scope, receive, send)

    def _check_key(self, guard: Guard, headers: dict[bytes, bytes]) -> None:
        if guard == "open":
            return
        keys = self._keys.get(guard)
        if keys is None and guard == "admin":
            raise RequestError(
                403, "admin_off", "administration is off; start with --admin-key-file"
            )
        if keys is not None and not keys.allows(headers):
            raise RequestError(
                401,
                "unauthorized",
                "show a key: Authorization: Bearer KEY",
                headers=((b"www-authenticate", b"Bearer"),),
            )

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            name = self._check_conversation(scope)
        except RequestError as error:
            count_error(error.code)
            count_request(LABEL, "", error.status, 0)
            await _deny(scope, send, error)
            return
        self._conversations += 1
        try:
            await Conversation(self.endpoints.predictor, name).run(receive, send)
        finally:
            self._conversations -= 1

    def _check_conversation(self, scope: Scope) -> str:
        """The model that a WebSocket is for."""
        match scope["path"].split("/")[1:]:
            case ["ws", name]:
                headers = dict(scope["headers"])
                self._check_key("key", headers)
                self._check_origin(headers)
                if self._conversations >= self._settings.max_concurrent:
                    message = f"{self._conversations} WebSockets are open"
                    raise RequestError(503, "overloaded", message, headers=_RETRY_AFTER)
                return self.endpoints.predictor.registry.get(name).name
        raise RequestError(404, "unknown_path", "no such path; WebSockets are at /ws/NAME")

    def _check_origin(self, headers: dict[bytes, bytes]) -> None:
        """Refuse pages of other origins: for WebSockets a browser leaves that to the server."""
        origin = headers.get(b"origin", b"").decode("latin-1")
        allowed = self._settings.cors_origins
        if not origin or "*" in allowed or origin in allowed:
            return
        if origin.partition("://")[2] != headers.get(b"host", b"").decode("latin-1"):
            raise RequestError(
                403,
                "origin_not_allowed",
                "pages of this origin may not connect; allow it with --cors-origin",
                field="origin",
                received=origin,
            )

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let BentoML start its service, watch the files while it runs, let it end."""
        watch: asyncio.Task[None] | None = None

        async def watch_once_started(message: Message) -> None:
            nonlocal watch
            if message["type"] == "lifespan.startup.complete":
                watch = asyncio.create_task(self._watch())
            await send(message)

        try:
            await self.inner(scope, receive, watch_once_started)
        finally:
            if watch is not None:
                watch.cancel()
            publish()

    async def _watch(self) -> None:
        """Take up changed models and keys."""
        loop = asyncio.get_running_loop()
        registry = self.endpoints.predictor.registry
        # What has been loaded stays for good: without this each full collection walks it all.
        gc.collect()
        gc.freeze()
        while True:
            await asyncio.sleep(_WATCH_S)
            publish()
            try:
                await loop.run_in_executor(None, registry.refresh)
                for keys in self._keys.values():
                    keys.refresh()
            except OSError as error:  # a file may go away between two looks
                _log.warning("looking for changes: %s", error)


def _answer_now(endpoint: Endpoint, request: Request) -> Reply:
    answer = endpoint.handler(request)
    return answer if isinstance(answer, Reply) else answer.answer()


def _error_reply(error: RequestError, path: str) -> Reply:
    count_error(error.code)
    # The protocol under /v2 has its own form of an error.
    v2 = path.startswith("/v2")
    body = orjson.dumps({"error": error.message}) if v2 else error.to_json()
    return Reply(body, status=error.status, headers=error.headers)


async def _deny(scope: Scope, send: Send, error: RequestError) -> None:
    """Refuse a WebSocket before it is one, with an HTTP answer if the server can send one."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": error.message[:100]})
        return
    reply = Reply(error.to_json(), status=error.status, headers=error.headers)
    await send_reply(send, reply, kind="websocket.http.response")
