"""Answers gRPC calls: key, limits, method, reply or error, metrics.

The edge does the same over HTTP. Both have the same limits, keys and batches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, cast

import grpc

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.grpc.connection import Connections
from trpo_deploy.serve.grpc.methods import STREAM, WATCH, Method, methods_of
from trpo_deploy.serve.grpc.status import status_code
from trpo_deploy.serve.grpc.waits import Waits
from trpo_deploy.serve.http.edge import Edge
from trpo_deploy.serve.messages import Reply
from trpo_deploy.serve.metrics import OPEN_STREAMS, count_error, count_request
from trpo_deploy.serve.protocols.batching import INLINE_BYTES, InferenceJob
from trpo_deploy.serve.protocols.inference_v2.infer_message import stream_error
from trpo_deploy.serve.protocols.inference_v2.messages import Message
from trpo_deploy.serve.settings import Settings

_KEYS = ("authorization", "x-api-key")
_RETRY_IN_A_SECOND = (("grpc-retry-pushback-ms", "1000"),)
"""HTTP's ``Retry-After``."""
_EOF = grpc.aio.EOF
_WATCH_S = 0.5
"""Pause between two looks at the health; a worker that will stop says so for a second or longer."""
_access_log = logging.getLogger("bentoml.access")
"""The logger of HTTP's access log."""


@dataclass(slots=True)
class _Request:
    """A request, as far as it is known."""

    data: bytes = b""
    message: Message = None


class _Failure(NamedTuple):
    """How a call is refused. Unlike the exception, it does not keep the request in memory."""

    code: grpc.StatusCode
    message: str
    metadata: tuple[tuple[str, str], ...]


_STOPPING = _Failure(grpc.StatusCode.UNAVAILABLE, "the service is stopping", ())


class InferenceService(grpc.GenericRpcHandler):  # type: ignore[misc] # grpcio is not typed
    """The methods of a worker.

    A call with one request is handled as a stream of one: then the wait for it is ours.

    Args:
        edge: The HTTP side of the worker. Its models are loaded.
        settings: The limits.
        connections: The clients'.

    Attributes:
        waits: The calls that wait for their clients.
    """

    def __init__(self, edge: Edge, settings: Settings, connections: Connections) -> None:
        self._edge = edge
        self._connections = connections
        self.waits = Waits(connections, settings.slow_client_seconds, 4 * settings.max_concurrent)
        self._max_bytes = settings.max_body_bytes
        self._max_streams = settings.max_concurrent
        self._open_streams = 0
        # A client that may not watch the health makes no calls either, so there is room for more.
        self._max_watches = 4 * settings.max_concurrent
        self._open_watches = 0
        self._idle: set[asyncio.Task[Any] | None] = set()
        """The calls that wait for something that may never happen."""
        self._stopping = False
        self._logs_access = settings.access_log
        # One at a time: parsing a hostile message of 8 MiB takes 350 MB.
        self._large = ThreadPoolExecutor(1, thread_name_prefix="large gRPC messages")
        methods = methods_of(edge.router.predictor.registry, settings)
        self._handlers = {
            path: grpc.stream_unary_rpc_method_handler(partial(self._answer_call, method))
            for path, method in methods.items()
        }
        for path, answer in ((STREAM, self._answer_stream), (WATCH, self._answer_watch)):
            handler = grpc.stream_stream_rpc_method_handler(partial(answer, methods[path]))
            self._handlers[path] = handler
        self._names = ", ".join(path.rpartition("/")[2] for path in self._handlers)

    def service(self, details: Any) -> Any:
        """The handler of a call."""
        handler = self._handlers.get(details.method)
        if handler is None:
            refuse = partial(self._refuse_unknown, details.method)
            handler = grpc.stream_unary_rpc_method_handler(refuse)
        return handler

    def end_streams(self) -> None:
        """End all streams, each after its present request."""
        self._stopping = True
        for task in self._idle:
            if task is not None:
                task.cancel()

    async def _answer_call(self, method: Method, _: object, context: Any) -> bytes:
        """Answer a call with one request and one reply."""
        started, request, peer = perf_counter(), _Request(), context.peer()
        try:
            self._check_key(method, context)
            request.data = await self._read_only(method.path, context, peer)
            reply = await self._run(method, request)
        except Exception as error:
            failure = self._fail(method.path, request, started, error, context)
        else:
            self._count(method.path, reply.model, reply.status, started, context)
            # Until the call is done, its client has not taken the reply.
            self.waits.begin(context, peer)
            context.add_done_callback(self.waits.end)
            return reply.body
        raise await _end(context, failure)

    async def _answer_stream(self, method: Method, _: object, context: Any) -> None:
        """Answer the requests of a stream, one after another."""
        started = perf_counter()
        try:
            self._check_key(method, context)
            if self._open_streams >= self._max_streams:
                raise RequestError.overloaded(f"{self._open_streams} gRPC streams are open")
        except RequestError as error:
            failure = self._fail(method.path, _Request(), started, error, context)
        else:
            self._open_streams += 1
            OPEN_STREAMS.set(self._open_streams)
            try:
                await self._answer_requests(method, context)
            finally:
                self._open_streams -= 1
                OPEN_STREAMS.set(self._open_streams)
            return
        raise await _end(context, failure)

    async def _answer_requests(self, method: Method, context: Any) -> None:
        peer = context.peer()
        while (data := await self._next(method, context, peer)) is not _EOF:
            started, request = perf_counter(), _Request(data)
            try:
                reply = await self._run(method, request)
                body = reply.body
            except Exception as error:
                failure = self._fail(method.path, request, started, error, context)
                body = stream_error(request.message.id if request.message else "", failure.message)
            else:
                self._count(method.path, reply.model, reply.status, started, context)
            with self.waits.waiting(context, peer):
                await _write(context, body)

    async def _next(self, method: Method, context: Any, peer: str) -> Any:
        """The next request of a stream."""
        if not self._stopping:
            with self._until_stop():
                return await self._read(method.path, context, peer)
        raise await _end(context, _STOPPING)

    async def _answer_watch(self, method: Method, _: object, context: Any) -> None:
        """Tell a client the health now and whenever it changes, until it or the service ends."""
        started, request = perf_counter(), _Request()
        self._open_watches += 1
        try:
            if self._open_watches > self._max_watches:
                raise RequestError.overloaded(f"{self._max_watches} clients watch the health")
            request.data = await self._read_only(method.path, context, context.peer())
            request.message = method.parse(request.data)
            self._count(method.path, "", 200, started, context)
            if not self._stopping:
                with self._until_stop():
                    await self._tell_changes(method, request.message, context)
            failure = _STOPPING
        except Exception as error:
            failure = self._fail(method.path, request, started, error, context)
        finally:
            self._open_watches -= 1
        raise await _end(context, failure)

    async def _tell_changes(self, method: Method, message: Message, context: Any) -> None:
        """Send the reply to a message now and whenever it changes."""
        told = b""
        while True:
            reply = method.handler(message)
            assert isinstance(reply, Reply)
            if reply.body != told:
                told = reply.body
                with self.waits.waiting(context, context.peer()):
                    await _write(context, told)
            await asyncio.sleep(_WATCH_S)

    @contextmanager
    def _until_stop(self) -> Iterator[None]:
        """End the block, without an exception, as soon as the service stops."""
        task = asyncio.current_task()
        self._idle.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            self._idle.discard(task)

    async def _read_only(self, path: str, context: Any, peer: str) -> bytes:
        """The request of a call that has one.

        Raises:
            RequestError: There is none, or too many calls wait for theirs.
        """
        self.waits.check()
        with self.waits.waiting(context, peer):
            data = await self._read(path, context, peer)
        if data is _EOF:
            raise RequestError(400, "invalid_message", "the call has no request")
        return cast(bytes, data)

    async def _read(self, path: str, context: Any, peer: str) -> Any:
        """The next message of the client, or ``EOF``.

        Raises:
            CancelledError: The call has ended.
        """
        data: Any = _EOF
        try:
            data = await context.read()
        except grpc.aio.BaseError:  # grpcio would log it with a traceback
            raise asyncio.CancelledError from None
        finally:
            refused = data is _EOF and self._connections.refused_message(peer)
            if refused:
                text = f"the message is longer than {self._max_bytes} bytes"
                error = RequestError(413, "body_too_large", text)
                self._fail(path, _Request(), perf_counter(), error, context)
        if refused:  # the core has told the client
            raise asyncio.CancelledError
        return data

    async def _refuse_unknown(self, path: str, _: object, context: Any) -> bytes:
        text = f"no method {path[:100]!r}; the service has {self._names}"
        error = RequestError(404, "unknown_method", text)
        failure = self._fail("unknown", _Request(), perf_counter(), error, context)
        raise await _end(context, failure)

    def _check_key(self, method: Method, context: Any) -> None:
        if method.access != "open":
            self._edge.access.check_key(method.access, _headers(context, _KEYS))

    async def _run(self, method: Method, request: _Request) -> Reply:
        """Call a method."""
        if len(request.data) > INLINE_BYTES:
            return await self._run_large(method, request)
        self._take(request.data)
        try:
            if method.access != "open":
                self._edge.check_load()
            result = _call(method, request)
        finally:
            self._release(request.data)
        return result if isinstance(result, Reply) else await self._edge.batcher.run(result)

    async def _run_large(self, method: Method, request: _Request) -> Reply:
        """Call a method in the thread for large messages.

        The message counts until the thread has finished, also if the client cancels the call.
        """
        data = request.data
        self._take(data)
        try:
            self._edge.check_load()
            self._edge.bodies.check_held()
        except RequestError:
            self._release(data)
            raise
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._large, _run_in_thread, method, request)
        work.add_done_callback(lambda _: self._release(data))
        return await asyncio.shield(work)

    def _take(self, data: bytes) -> None:
        self._edge.in_flight += 1
        self._edge.bodies.hold(data)

    def _release(self, data: bytes) -> None:
        self._edge.in_flight -= 1
        self._edge.bodies.release(data)

    def _fail(
        self, path: str, request: _Request, started: float, caught: Exception, context: Any
    ) -> _Failure:
        """Count a refused request."""
        error = RequestError.from_exception(caught, f"answering {path}")
        asked = "" if request.message is None else Method.model_of(request.message)
        name = self._edge.router.predictor.served_name(asked)
        count_error(error.code, name)
        self._count(path, name, error.status, started, context)
        metadata = _RETRY_IN_A_SECOND if error.code == "overloaded" else ()
        return _Failure(status_code(error), error.message, metadata)

    def _count(self, path: str, model: str, status: int, started: float, context: Any) -> None:
        """Count an answered request; its status is the one that it has over HTTP."""
        seconds = perf_counter() - started
        count_request(path, model, status, seconds)
        if self._logs_access:
            client = self._connections.client_of(context.peer())
            request = f"scheme=grpc,method=POST,path={path}"
            _access_log.info("%s (%s) (status=%d) %.3fms", client, request, status, 1e3 * seconds)
        if self._edge.tracing is not None:
            headers = _headers(context, ("traceparent", "tracestate"))
            self._edge.tracing.record("POST", path, model, status, seconds, headers)


def _call(method: Method, request: _Request) -> Reply | InferenceJob:
    request.message = method.parse(request.data)
    return method.handler(request.message)


def _run_in_thread(method: Method, request: _Request) -> Reply:
    result = _call(method, request)
    return result if isinstance(result, Reply) else result.run()


def _headers(context: Any, names: tuple[str, ...]) -> dict[bytes, bytes]:
    """Some of a call's metadata, as HTTP's headers."""
    metadata = context.invocation_metadata()
    return {
        name.encode(): value.encode("latin-1")
        for name, value in metadata
        if name in names and isinstance(value, str)
    }


async def _write(context: Any, data: bytes) -> None:
    """Send a message.

    Raises:
        CancelledError: The call has ended.
    """
    try:
        await context.write(data)
    except grpc.aio.BaseError:
        raise asyncio.CancelledError from None


async def _end(context: Any, failure: _Failure) -> BaseException:
    """End a call with an error.

    Returns:
        The exception to raise: grpcio expects its own, and logs others.
    """
    try:
        await context.abort(failure.code, failure.message, failure.metadata)
    except grpc.aio.AbortError as ended:
        return ended  # type: ignore[no-any-return]
    except grpc.aio.BaseError:  # it has ended already
        pass
    return asyncio.CancelledError()
