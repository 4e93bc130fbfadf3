"""The table of gRPC methods: the Open Inference Protocol, and gRPC's health protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.http.access import AccessLevel
from trpo_deploy.serve.http.health import is_ready
from trpo_deploy.serve.messages import Reply
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.protocols.batching import InferenceJob
from trpo_deploy.serve.protocols.inference_v2.describe import (
    SERVER,
    describe_index,
    describe_model,
)
from trpo_deploy.serve.protocols.inference_v2.infer_message import InferMessages
from trpo_deploy.serve.protocols.inference_v2.messages import MESSAGES, Message
from trpo_deploy.serve.settings import Settings

Handler: TypeAlias = Callable[[Message], Reply | InferenceJob]

SERVICE = "inference.GRPCInferenceService"
STREAM = f"/{SERVICE}/ModelStreamInfer"
CHECK, WATCH = (f"/grpc.health.v1.Health/{each}" for each in ("Check", "Watch"))
_SERVICES = ("", SERVICE)
"""The names that health checks may ask for; the empty one means all."""
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3
"""Values of ``grpc.health.v1.HealthCheckResponse.ServingStatus``."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method."""

    path: str
    """Its HTTP/2 path; a label of the metrics."""
    request: type[Message]
    handler: Handler
    access: AccessLevel = "key"

    def parse(self, data: bytes) -> Message:
        """Read a request.

        Raises:
            RequestError: The bytes are not such a message.
        """
        try:
            return self.request.FromString(data)
        except DecodeError as error:
            name = self.path.rpartition("/")[2]
            message = f"the bytes are not a request of {name}: {error}"
            raise RequestError(400, "invalid_message", message) from error

    @staticmethod
    def model_of(message: Message) -> str:
        """Name of the model that a request asks for; empty if it asks for none."""
        name: str = getattr(message, "model_name", "") or getattr(message, "name", "")
        return name


def methods_of(registry: Registry, settings: Settings) -> Mapping[str, Method]:
    """The methods by path."""
    infer = InferMessages(registry, settings)

    def live(_: Message) -> Reply:
        return _reply("Live", live=True)

    def server_metadata(_: Message) -> Reply:
        return _reply("ServerMetadata", **SERVER)

    def index(_: Message) -> Reply:
        return _reply("Index", models=describe_index(registry))

    def ready(_: Message) -> Reply:
        return _reply("Ready", ready=is_ready(registry))

    def model_ready(message: Message) -> Reply:
        try:
            model = registry.get(message.name or None, message.version or None)
        except RequestError:  # as Triton answers for a model that it does not have
            return _reply("Ready", ready=False)
        return _reply("Ready", model.name, ready=True)

    def model_metadata(message: Message) -> Reply:
        value = describe_model(registry, message.name or None, message.version or None)
        encoded = MESSAGES["ModelMetadata"](**value).SerializeToString()
        return Reply(encoded, value["name"])

    def check(message: Message) -> Reply:
        if message.service not in _SERVICES:
            known = f"{SERVICE!r} or no name, for all"
            text = f"no service {message.service[:64]!r}; expected {known}"
            raise RequestError(404, "unknown_service", text)
        return watch(message)

    def watch(message: Message) -> Reply:  # here an unknown service is a status
        status = _SERVING if is_ready(registry) else _NOT_SERVING
        known = message.service in _SERVICES
        return _reply("HealthCheckResponse", status=status if known else _SERVICE_UNKNOWN)

    empty, model, request = (MESSAGES[name] for name in ("Empty", "Model", "InferRequest"))
    health = MESSAGES["HealthCheckRequest"]
    methods = [
        Method(f"/{SERVICE}/ServerLive", empty, live, "open"),
        Method(f"/{SERVICE}/ServerReady", empty, ready, "open"),
        Method(f"/{SERVICE}/ServerMetadata", empty, server_metadata, "open"),
        Method(f"/{SERVICE}/ModelReady", model, model_ready),
        Method(f"/{SERVICE}/ModelMetadata", model, model_metadata),
        Method(f"/{SERVICE}/RepositoryIndex", empty, index),
        Method(f"/{SERVICE}/ModelInfer", request, lambda m: infer.infer(m, stream=False)),
        Method(STREAM, request, lambda m: infer.infer(m, stream=True)),
        Method(CHECK, health, check, "open"),
        Method(WATCH, health, watch, "open"),
    ]
    return {method.path: method for method in methods}


def _reply(message: str, model: str = "", **fields: Any) -> Reply:
    return Reply(MESSAGES[message](**fields).SerializeToString(), model)
