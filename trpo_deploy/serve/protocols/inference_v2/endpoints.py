"""The endpoints under ``/v2``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from trpo_deploy.serve.messages import Reply, Request
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.protocols.batching import InferenceJob
from trpo_deploy.serve.protocols.inference_v2.describe import (
    SERVER,
    describe_index,
    describe_model,
)
from trpo_deploy.serve.protocols.inference_v2.reply import make_reply
from trpo_deploy.serve.protocols.inference_v2.request import parse_infer_request
from trpo_deploy.serve.settings import Settings


@dataclass(frozen=True, slots=True)
class InferenceV2:
    """Answers the protocol's requests."""

    registry: Registry
    settings: Settings

    def server(self) -> Reply:
        """``GET /v2``."""
        return _json_reply(SERVER)

    def index(self) -> Reply:
        """``POST /v2/repository/index``: the models and their states."""
        return _json_reply(describe_index(self.registry))

    def metadata(self, request: Request) -> Reply:
        """``GET /v2/models/NAME``: inputs and outputs.

        Raises:
            RequestError: The model does not exist.
        """
        value = describe_model(self.registry, request.model, request.version)
        return _json_reply(value, value["name"])

    def ready(self, request: Request) -> Reply:
        """``GET /v2/models/NAME/ready``.

        Raises:
            RequestError: The model does not exist or is not loaded.
        """
        model = self.registry.get(request.model, request.version)
        return _json_reply({"name": model.name, "ready": True}, model.name)

    def infer(self, request: Request) -> InferenceJob:
        """``POST /v2/models/NAME/infer``.

        Raises:
            RequestError: The request cannot be answered.
        """
        model = self.registry.get(request.model, request.version)
        parsed = parse_infer_request(request, model, self.settings)
        reply = partial(make_reply, model, parsed.id, parsed.outputs)
        return InferenceJob(model.policy, tuple(parsed.outputs), parsed.inputs, reply)


def _json_reply(value: Any, model: str = "") -> Reply:
    return Reply(orjson.dumps(value), model)
