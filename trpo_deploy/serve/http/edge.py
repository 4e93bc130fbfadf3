"""The outermost ASGI layer: answers the service's endpoints, forwards the rest to BentoML.

BentoML's own stack (access log, tracing, metrics, timeout, routing) costs several times what a
small policy costs, and applies no limits first. Here a request meets its limits first and then
takes the shortest way to the policy.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING

import orjson

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.http.access import AccessControl, AccessLevel
from trpo_deploy.serve.http.asgi import NOSNIFF, send_reply
from trpo_deploy.serve.http.background import background
from trpo_deploy.serve.http.body import BodyReader, ClientGoneError
from trpo_deploy.serve.http.hosts import AllowedHosts
from trpo_deploy.serve.http.router import Endpoint, Router
from trpo_deploy.serve.http.websocket_handshake import WebSocketHandshake
from trpo_deploy.serve.messages import AsgiApp, Message, Receive, Reply, Request, Scope, Send
from trpo_deploy.serve.metrics import (
    METRICS_PATH,
    OPEN_WEBSOCKETS,
    WAITING_JOBS,
    count_error,
    count_reloads,
    count_request,
    publish,
    use_models,
)
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.protocols.batching import INLINE_BYTES, Batcher, InferenceJob
from trpo_deploy.serve.settings import Settings

if TYPE_CHECKING:
    from trpo_deploy.serve.tracing import Tracing

_BENTOML_PATHS: dict[str, AccessLevel] = {
    METRICS_PATH: "key",
    "/schema.json": "key",
    "/healthz": "open",
    "/static_content/swagger-ui.css": "open",
    "/static_content/swagger-ui-bundle.js": "open",
}
"""Only these are forwarded: BentoML's metrics grow with each path that it sees."""
_log = logging.getLogger(__name__)


class Edge:
    """ASGI application in front of BentoML's.

    Args:
        inner: BentoML's application.
        settings: Limits, key files and allowed hosts.
        open_registry: Returns the models. Called once, when the worker has started.

    Attributes:
        access: Checks keys.
        bodies: Reads bodies, and counts their bytes.
        batcher: Runs the policies.
        in_flight: Number of requests that are being answered.
        tracing: Records a span for each request; None if it is off.
    """

    def __init__(
        self,
        inner: AsgiApp,
        settings: Settings,
        open_registry: Callable[[], Registry],
    ) -> None:
        self.inner = inner
        self._settings = settings
        self._max_concurrent = settings.max_concurrent
        self._open_registry = open_registry
        self.access = AccessControl(settings)
        self._hosts = AllowedHosts(settings)
        self._websockets = WebSocketHandshake(self.access, self._hosts, settings.max_concurrent)
        self.bodies = BodyReader(settings)
        self.batcher = Batcher()
        self.in_flight = 0
        self.tracing = _open_tracing() if settings.tracing else None

    @cached_property
    def router(self) -> Router:
        """The endpoints. The first access loads the models."""
        registry = self._open_registry()
        use_models(lambda: len(registry.entries))
        return Router(registry, self._settings, self.access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request, one WebSocket, or the lifespan of the worker."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websockets.run(self.router.predictor, scope, receive, send)
        else:
            await self._lifespan(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        path: str = scope["path"]
        endpoint, name, version = self.router.find(path)
        request = Request(dict(scope["headers"]), b"", name, version)
        try:
            self._hosts.check(scope, request.headers)
            if endpoint is None:
                await self._forward(request, scope, receive, send)
                return
            result = await self._handle(endpoint, scope["method"], request, receive)
            reply = result if isinstance(result, Reply) else await self.batcher.run(result)
        except ClientGoneError:
            count_error("client_gone", self.router.predictor.served_name(name))
            return
        except Exception as error:
            label = "unknown" if endpoint is None else endpoint.label
            # Not kept in a variable: the exception's traceback holds this frame and the body.
            reply = self._error_reply(
                RequestError.from_exception(error, f"answering {label}"), request, path
            )
        await send_reply(send, reply)
        label = "unknown" if endpoint is None else endpoint.label
        seconds = perf_counter() - started
        count_request(label, reply.model, reply.status, seconds)
        if self.tracing is not None:
            self.tracing.record(
                scope["method"], label, reply.model, reply.status, seconds, request.headers
            )

    def _error_reply(self, error: RequestError, request: Request, path: str) -> Reply:
        name = self.router.predictor.served_name(request.model)
        count_error(error.code, name)
        # The protocol under /v2 defines its own error body.
        v2 = path.startswith("/v2")
        body = orjson.dumps({"error": error.message}) if v2 else error.to_json()
        return Reply(body, name, status=error.status, headers=error.headers)

    async def _handle(
        self, endpoint: Endpoint, method: str, request: Request, receive: Receive
    ) -> Reply | InferenceJob:
        """Check the method, the key and the limits, read the body, and call the endpoint."""
        if method != endpoint.method and (method, endpoint.method) != ("HEAD", "GET"):
            return _answer_options(endpoint.method, method, _example(endpoint, request))
        if b"origin" in request.headers and endpoint.access != "open":
            self._hosts.check_origin(request.headers)
        self.access.check_key(endpoint.access, request.headers)
        request.body = await self.bodies.read(request.headers, receive)
        # Counted from here on: a request that is still arriving costs bytes, but no time.
        self.in_flight += 1
        try:
            if endpoint.access != "open":
                self.check_load()
            if endpoint.slow or len(request.body) > INLINE_BYTES:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(None, _handle_in_thread, endpoint, request)
            return endpoint.handler(request)
        finally:
            self.in_flight -= 1
            self.bodies.release(request.body)

    def check_load(self) -> None:
        """Check the number of requests in flight, the one that asks included.

        Raises:
            RequestError: There are too many (503).
        """
        if self.in_flight > self._max_concurrent:
            raise RequestError.overloaded(
                f"{self._max_concurrent} requests are in flight; try again in a second"
            )

    async def _forward(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request to BentoML."""
        access = _BENTOML_PATHS.get(scope["path"])
        if access is None:
            raise RequestError(404, "unknown_path", "no such path; GET /docs lists all paths")
        if scope["method"] not in ("GET", "HEAD"):
            await send_reply(send, _answer_options("GET", scope["method"]))
            return
        if access != "open":
            self._hosts.check_origin(request.headers)
        self.access.check_key(access, request.headers)
        await self._publish()  # the numbers of other workers are up to a second old

        async def send_nosniff(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), NOSNIFF]
            await send(message)

        await self.inner(scope, receive, send_nosniff)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run BentoML's lifespan, and the background tasks while it lasts."""

        async def start_tasks_once_started(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._start_background_tasks()
            await send(message)

        try:
            await self.inner(scope, receive, start_tasks_once_started)
        finally:
            background.stop()
            await self._publish()
            if self.tracing is not None:
                self.tracing.close()

    def _start_background_tasks(self) -> None:
        """Refresh models, keys and metrics once a second. No task waits for another."""
        registry = self.router.predictor.registry
        # What is loaded now stays in memory: exclude it from full collections.
        gc.collect()
        gc.freeze()
        background.start("metrics", self._publish)
        background.start_in_thread("models", registry.refresh)
        background.start_in_thread("keys", self.access.refresh)

    async def _publish(self) -> None:
        """Write the metrics to the files that ``/metrics`` of every worker reads."""
        WAITING_JOBS.set(self.batcher.waiting)
        OPEN_WEBSOCKETS.set(self._websockets.open)
        count_reloads(self.router.predictor.registry.entries)
        publish()


def _open_tracing() -> Tracing:
    from trpo_deploy.serve.tracing import Tracing  # imports requests and protobuf

    return Tracing()


def _example(endpoint: Endpoint, request: Request) -> str:
    """For people who open the address of predictions in a browser: the command to send one."""
    if not endpoint.label.endswith("/predict"):
        return ""
    host = request.headers.get(b"host", b"").decode("latin-1")
    return (
        f", as in: curl {host}{endpoint.label} -H 'Content-Type: application/json' "
        """-d '{"observation": [...]}'; /docs shows an observation of each model"""
    )


def _answer_options(expected: str, method: str, example: str = "") -> Reply:
    """The methods of a path that has the method ``expected``, on ``OPTIONS``.

    Args:
        expected: The path's method.
        method: The request's.
        example: How to call the path, for the error message.

    Raises:
        RequestError: The method is another one that the path does not have.
    """
    allowed = "GET, HEAD, OPTIONS" if expected == "GET" else f"{expected}, OPTIONS"
    headers = ((b"allow", allowed.encode()),)
    if method == "OPTIONS":
        return Reply(b"", headers=headers)
    raise RequestError(
        405,
        "wrong_method",
        f"use {expected} here{example}",
        expected=expected,
        received=method[:16],
        headers=headers,
    )


def _handle_in_thread(endpoint: Endpoint, request: Request) -> Reply:
    result = endpoint.handler(request)
    return result if isinstance(result, Reply) else result.run()
