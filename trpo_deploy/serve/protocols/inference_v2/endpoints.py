"""The endpoints under ``/v2``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import orjson

from trpo_deploy import __version__
from trpo_deploy.serve.messages import Reply, Request
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.protocols.batching import InferenceJob
from trpo_deploy.serve.protocols.inference_v2.datatypes import DATATYPE_OF
from trpo_deploy.serve.protocols.inference_v2.reply import make_reply
from trpo_deploy.serve.protocols.inference_v2.request import parse_infer_request
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.policy_spec import TensorSpec
from trpo_deploy.spec.spaces import Json


@dataclass(frozen=True, slots=True)
class InferenceV2:
    """Answers the protocol's requests."""

    registry: Registry
    settings: Settings

    def server(self) -> Reply:
        """``GET /v2``."""
        return _json_reply(
            {"name": "trpo-deploy", "version": __version__, "extensions": ["binary_tensor_data"]}
        )

    def index(self) -> Reply:
        """``POST /v2/repository/index``: the models and their states."""
        entries = self.registry.entries.items()
        rows = [
            {"name": name, "version": version, "state": "READY", "reason": entry.error or ""}
            for name, entry in entries
            for version in entry.versions
        ]
        rows += [
            {"name": name, "version": "", "state": "UNAVAILABLE", "reason": entry.error or ""}
            for name, entry in entries
            if not entry.versions
        ]
        return _json_reply(rows)

    def metadata(self, request: Request) -> Reply:
        """``GET /v2/models/NAME``: inputs and outputs.

        Raises:
            RequestError: The model does not exist.
        """
        model = self.registry.get(request.model, request.version)
        spec = model.policy.spec
        value = {
            "name": model.name,
            "versions": list(self.registry.entries[model.name].versions),
            "platform": "onnxruntime_onnx",
            "inputs": [_describe(tensor) for tensor in spec.inputs],
            "outputs": [_describe(tensor) for tensor in spec.outputs],
        }
        return _json_reply(value, model.name)

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


def _describe(tensor: TensorSpec) -> Json:
    datatype = DATATYPE_OF[np.dtype(tensor.dtype)]
    return {"name": tensor.name, "datatype": datatype, "shape": [-1, *tensor.shape]}


def _json_reply(value: Any, model: str = "") -> Reply:
    return Reply(orjson.dumps(value), model)
