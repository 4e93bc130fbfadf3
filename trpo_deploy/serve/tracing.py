"""One OpenTelemetry span for each HTTP request, sent to a collector over OTLP.

OpenTelemetry's variables configure it: ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_SERVICE_NAME``,
``OTEL_TRACES_SAMPLER`` and so on. Its ASGI middleware is not used: it puts the raw path of each
request into the span, and makes three spans of one request.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from threading import Thread
from time import time_ns

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode

from trpo_deploy.errors import ServeError

_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_CLOSE_S = 3
"""A collector that is gone may delay the end of a worker by this long, in seconds."""
_log = logging.getLogger(__name__)


def check_protocol() -> None:
    """Check that the environment asks for the protocol that is spoken here.

    Raises:
        ServeError: It asks for another one, such as ``grpc``.
    """
    for name in _PROTOCOLS:
        value = os.environ.get(name) or _PROTOCOL
        if value != _PROTOCOL:
            raise ServeError(
                f"{name} is {value!r}, but traces are sent as {_PROTOCOL!r}; unset the variable, "
                "and give a collector that accepts OTLP over HTTP"
            )


class Tracing:
    """Records a span for each request; a thread sends them in batches."""

    def __init__(self) -> None:
        resource = Resource.create().merge(
            Resource({SERVICE_NAME: "trpo-deploy"}).merge(OTELResourceDetector().detect())
        )
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_QuietExporter()))
        self._tracer = self._provider.get_tracer("trpo_deploy")

    def record(
        self,
        method: str,
        route: str,
        model: str,
        status: int,
        seconds: float,
        headers: dict[bytes, bytes],
    ) -> None:
        """Record an answered request.

        Args:
            method: Its HTTP method.
            route: Path with placeholders such as ``/models/NAME/predict``.
            model: Name of the model that answered; empty if there is none.
            status: HTTP status of the answer.
            seconds: Time from the request's arrival to the end of the answer.
            headers: Headers of the request; ``traceparent`` makes the span part of its trace.
        """
        carrier = {name.decode("latin-1"): v.decode("latin-1") for name, v in headers.items()}
        end = time_ns()
        span = self._tracer.start_span(
            f"{method} {route}",
            context=extract(carrier),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "trpo_deploy.model": model,
            },
            start_time=end - round(seconds * 1e9),
        )
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(end)

    def close(self) -> None:
        """Send what is left, but stop trying after :data:`_CLOSE_S`."""
        closing = Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_S)


class _QuietExporter(SpanExporter):
    """Sends spans, and logs a line when the collector disappears or is back."""

    def __init__(self) -> None:
        # It logs several lines for each batch that fails, one every few seconds.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = OTLPSpanExporter()
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self._failing:
            _log.warning(
                "traces cannot be sent to %s: they are dropped until it answers", _target()
            )
        elif self._failing and not failing:
            _log.info("traces are sent again")
        self._failing = failing
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


def _target() -> str:
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next(filter(None, map(os.environ.get, names)), "http://localhost:4318")
