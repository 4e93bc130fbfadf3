"""The BentoML service; ``bentoml serve trpo_deploy.serve.process.service:PolicyService`` works.

BentoML's supervisor imports this module as its workers do, so nothing is loaded at import.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import bentoml
import orjson

from trpo_deploy.serve.http.edge import Edge
from trpo_deploy.serve.messages import AsgiApp
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.protocols.predict import Call, Predictor
from trpo_deploy.serve.settings import Settings

_SETTINGS = Settings.from_environment()
_log = logging.getLogger(__name__)


@cache
def open_registry() -> Registry:
    """The models of this process, loaded when they are first asked for."""
    registry = Registry(_SETTINGS.models)
    for name, slot in registry.slots.items():
        if slot.error is not None:
            _log.warning("model %s: %s", name, slot.error)
    return registry


class EdgeService(bentoml.Service[Any]):  # type: ignore[misc] # bentoml exports it untyped
    """A BentoML service whose ASGI application has :class:`Edge` outermost."""

    def to_asgi(self, is_main: bool = True) -> AsgiApp:
        """The application that a worker runs."""
        return wrap(Edge(super().to_asgi(is_main), _SETTINGS, open_registry), _SETTINGS)


def wrap(edge: Edge, settings: Settings) -> AsgiApp:
    """Put around the edge what is off by default: cross-origin headers, access log, tracing."""
    app: AsgiApp = edge
    if settings.cors_origins:
        from starlette.middleware.cors import CORSMiddleware

        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
    if settings.access_log:
        from bentoml._internal.server.http.access import AccessLogMiddleware

        app = AccessLogMiddleware(app, True, True, True, True)
    if settings.tracing:
        from bentoml._internal.configuration.containers import BentoMLContainer
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

        app = OpenTelemetryMiddleware(app, tracer_provider=BentoMLContainer.tracer_provider.get())
    return app


@bentoml.service(
    name="trpo_deploy",
    service_class=EdgeService,
    # BentoML keeps every request for as long as this time-out, answered or not.
    traffic={"timeout": 10},
    # The edge stands outside of these; see wrap().
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": [".*"]},
)
class PolicyService:
    """Trained policies: an observation in, an action out."""

    def __init__(self) -> None:
        self._predictor = Predictor(open_registry(), _SETTINGS)

    @bentoml.api  # type: ignore[untyped-decorator]
    async def predict(
        self,
        observation: Any,
        model: str | None = None,
        version: str | None = None,
        deterministic: bool = True,
        state: str | None = None,
    ) -> dict[str, Any]:
        """The action for an observation.

        The edge answers this path before BentoML sees it. The method makes it part of the
        service's schema, so that ``bentoml.SyncHTTPClient`` has it, and gives the same answer.
        """
        reply = self._predictor.answer(Call(observation, model, version, deterministic, state))
        value: dict[str, Any] = orjson.loads(reply.body)
        return value
