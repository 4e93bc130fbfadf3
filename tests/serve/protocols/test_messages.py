"""The gRPC messages are those of the published protocol, as Triton's client has them."""

from __future__ import annotations

from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from trpo_deploy.serve.protocols.inference_v2.messages import FIELDS, MESSAGES

PUBLISHED = {
    "Empty": "ServerLiveRequest",
    "Live": "ServerLiveResponse",
    "Ready": "ModelReadyResponse",
    "Model": "ModelMetadataRequest",
    "ServerMetadata": "ServerMetadataResponse",
    "ModelMetadata": "ModelMetadataResponse",
    "TensorMetadata": "ModelMetadataResponse.TensorMetadata",
    "Index": "RepositoryIndexResponse",
    "IndexRow": "RepositoryIndexResponse.ModelIndex",
    "InferRequest": "ModelInferRequest",
    "RequestedOutput": "ModelInferRequest.InferRequestedOutputTensor",
    "InferResponse": "ModelInferResponse",
    "StreamInferResponse": "ModelStreamInferResponse",
    "Tensor": "ModelInferRequest.InferInputTensor",
    "TensorContents": "InferTensorContents",
}
"""Our messages and the published ones."""
HEALTH = {"HealthCheckRequest", "HealthCheckResponse"}


def fields_of(descriptor: Any) -> dict[str, tuple[int, int, bool]]:
    """Number, type and whether it is repeated, of each field."""
    return {
        field.name: (field.number, field.type, field.is_repeated) for field in descriptor.fields
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_fields_have_the_published_numbers_and_types(name: str) -> None:
    published: Any = service_pb2
    for part in PUBLISHED[name].split("."):
        published = getattr(published, part)
    assert fields_of(MESSAGES[name].DESCRIPTOR) == fields_of(published.DESCRIPTOR)


def test_inputs_and_outputs_have_the_same_fields() -> None:
    inputs = service_pb2.ModelInferRequest.InferInputTensor.DESCRIPTOR
    outputs = service_pb2.ModelInferResponse.InferOutputTensor.DESCRIPTOR
    assert fields_of(inputs) == fields_of(outputs)


def test_no_message_is_left_out() -> None:
    # A map's key is all that is read of a parameter.
    assert set(FIELDS) - HEALTH - set(PUBLISHED) == {"Parameter"}
    assert FIELDS["Parameter"] == {"key": (1, "string")}
