"""The protocol's gRPC messages.

Their fields have the names, numbers and types of the published ``inference.GRPCInferenceService``;
a test compares them with Triton's client. They are built here, in a pool of their own: another
package with the same messages, such as that client, can be imported in the same process, and any
version of protobuf works.

A map is declared as the list of entries that it is on the wire, here without their values: no
parameter is supported. Names of messages are not on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

Message: TypeAlias = Any
"""A message; protobuf makes its fields at run time."""

_PACKAGE = "trpo_deploy.inference_v2"
_NAMED = {"name": (1, "string")}
_NAMED_VERSION = {**_NAMED, "version": (2, "string")}
_TENSOR = {**_NAMED, "datatype": (2, "string"), "shape": (3, "int64*")}
_PARAMETERS = {"parameters": (4, "Parameter*")}

FIELDS: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Empty": {},
    "Live": {"live": (1, "bool")},
    "Ready": {"ready": (1, "bool")},
    "Model": _NAMED_VERSION,
    "ServerMetadata": {**_NAMED_VERSION, "extensions": (3, "string*")},
    "ModelMetadata": {
        **_NAMED,
        "versions": (2, "string*"),
        "platform": (3, "string"),
        "inputs": (4, "TensorMetadata*"),
        "outputs": (5, "TensorMetadata*"),
    },
    "TensorMetadata": _TENSOR,
    "Index": {"models": (1, "IndexRow*")},
    "IndexRow": {**_NAMED_VERSION, "state": (3, "string"), "reason": (4, "string")},
    "InferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        **_PARAMETERS,
        "inputs": (5, "Tensor*"),
        "outputs": (6, "RequestedOutput*"),
        "raw_input_contents": (7, "bytes*"),
    },
    "RequestedOutput": {**_NAMED, "parameters": (2, "Parameter*")},
    "InferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        **_PARAMETERS,
        "outputs": (5, "Tensor*"),
        "raw_output_contents": (6, "bytes*"),
    },
    "StreamInferResponse": {"error_message": (1, "string"), "infer_response": (2, "InferResponse")},
    "Tensor": {**_TENSOR, **_PARAMETERS, "contents": (5, "TensorContents")},
    "TensorContents": {
        "bool_contents": (1, "bool*"),
        "int_contents": (2, "int32*"),
        "int64_contents": (3, "int64*"),
        "uint_contents": (4, "uint32*"),
        "uint64_contents": (5, "uint64*"),
        "fp32_contents": (6, "float*"),
        "fp64_contents": (7, "double*"),
        "bytes_contents": (8, "bytes*"),
    },
    "Parameter": {"key": (1, "string")},
    # grpc.health.v1
    "HealthCheckRequest": {"service": (1, "string")},
    "HealthCheckResponse": {"status": (1, "int32")},
}
"""The fields of each message: number and type, with ``*`` for any number of values."""


def _build() -> dict[str, type[Message]]:
    file = FileDescriptorProto(
        name="trpo_deploy/inference_v2.proto", package=_PACKAGE, syntax="proto3"
    )
    for message, fields in FIELDS.items():
        described = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            field = described.field.add(name=name, number=number)
            _set_type(field, kind.removesuffix("*"))
            repeated = kind.endswith("*")
            field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    find = pool.FindMessageTypeByName
    return {name: GetMessageClass(find(f"{_PACKAGE}.{name}")) for name in FIELDS}


def _set_type(field: FieldDescriptorProto, kind: str) -> None:
    if kind in FIELDS:
        field.type, field.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


MESSAGES = _build()
"""The message classes by name."""
