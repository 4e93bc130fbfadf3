"""Infer requests and replies as gRPC messages.

A tensor's numbers are raw bytes beside the tensors, or a list of a type of their own. The reply has
the form of the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from trpo_deploy.serve.messages import Reply
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.protocols.batching import InferenceJob
from trpo_deploy.serve.protocols.inference_v2.datatypes import DATATYPE_OF
from trpo_deploy.serve.protocols.inference_v2.inputs import (
    bind_tensors,
    check_keys,
    dtype_and_shape,
    refuse,
    tensor_from_list,
)
from trpo_deploy.serve.protocols.inference_v2.messages import FIELDS, MESSAGES, Message
from trpo_deploy.serve.protocols.tensor import tensor_from_bytes
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.spaces import Array

_RESPONSE = MESSAGES["InferResponse"]
_STREAM_RESPONSE = MESSAGES["StreamInferResponse"]
_LISTS = tuple(FIELDS["TensorContents"])
_LIST_OF = {
    "BOOL": "bool_contents",
    **{f"INT{bits}": "int_contents" for bits in (8, 16, 32)},
    "INT64": "int64_contents",
    **{f"UINT{bits}": "uint_contents" for bits in (8, 16, 32)},
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""The list that has the numbers of a datatype. Half-precision numbers have none: they are raw."""


@dataclass(frozen=True, slots=True)
class InferMessages:
    """Answers infer requests."""

    registry: Registry
    settings: Settings

    def infer(self, request: Message, *, stream: bool) -> InferenceJob:
        """The run that answers a request.

        Args:
            request: The message.
            stream: Whether the reply is one of a stream.

        Raises:
            RequestError: The request cannot be answered.
        """
        model = self.registry.get(request.model_name or None, request.model_version or None)
        check_keys("parameters", (each.key for each in request.parameters), frozenset())
        raw = bool(request.raw_input_contents)
        inputs = bind_tensors(model, _read_inputs(request, raw), self.settings)
        outputs = _requested_outputs(model, request)
        make_reply = partial(_make_reply, model, request.id, outputs, raw, stream)
        return InferenceJob(model.policy, outputs, inputs, make_reply)


def stream_error(request_id: str, message: str) -> bytes:
    """The reply of a stream to a request that cannot be answered."""
    failed = _RESPONSE(id=request_id)
    reply: bytes = _STREAM_RESPONSE(
        error_message=message, infer_response=failed
    ).SerializeToString()
    return reply


def _read_inputs(request: Message, raw: bool) -> dict[str, Array]:
    contents = request.raw_input_contents
    if not request.inputs:
        raise refuse("inputs", "tensors", "none")
    if raw and len(contents) != len(request.inputs):
        expected = f"one for each of the {len(request.inputs)} inputs"
        raise refuse("raw_input_contents", expected, len(contents))
    tensors: dict[str, Array] = {}
    for index, tensor in enumerate(request.inputs):
        name = tensor.name
        if name in tensors:
            raise refuse(name, "each input once", "it twice")
        check_keys(name, (each.key for each in tensor.parameters), frozenset())
        if not raw:
            tensors[name] = _tensor_from_contents(tensor)
            continue
        if tensor.HasField("contents"):
            raise refuse(name, 'either "contents" or "raw_input_contents"', "both")
        dtype = dtype_and_shape(tensor.datatype, list(tensor.shape), name)
        tensors[name] = tensor_from_bytes(contents[index], *dtype, name)
    return tensors


def _tensor_from_contents(tensor: Message) -> Array:
    wanted = _LIST_OF.get(tensor.datatype)
    if wanted is None:
        expected = f"a datatype of {', '.join(_LIST_OF)}; FP16 as raw_input_contents"
        raise refuse(tensor.name, expected, tensor.datatype or "nothing")
    others = [name for name in _LISTS if name != wanted and len(getattr(tensor.contents, name))]
    if others:
        raise refuse(tensor.name, f"{tensor.datatype} in {wanted}", others[0])
    data = list(getattr(tensor.contents, wanted))
    return tensor_from_list(data, tensor.datatype, list(tensor.shape), tensor.name)


def _requested_outputs(model: ServedModel, request: Message) -> tuple[str, ...]:
    names = [tensor.name for tensor in model.policy.spec.outputs]
    wanted: list[str] = []
    for output in request.outputs:
        if output.name not in names:
            raise refuse("outputs", f"names out of {names}", output.name)
        if output.name in wanted:
            raise refuse(output.name, "each output once", "it twice")
        check_keys(output.name, (each.key for each in output.parameters), frozenset())
        wanted.append(output.name)
    return tuple(wanted or names)


def _make_reply(
    model: ServedModel,
    request_id: str,
    outputs: tuple[str, ...],
    raw: bool,
    stream: bool,
    arrays: list[Array],
) -> Reply:
    """Encode the outputs of a run.

    Args:
        model: The model that ran.
        request_id: The request's identifier, which the reply repeats.
        outputs: Names of the outputs.
        raw: Whether the numbers are sent as raw bytes.
        stream: Whether the reply is one of a stream.
        arrays: The values of ``outputs``, in the same order.
    """
    names: Message = {"model_name": model.name, "model_version": model.version, "id": request_id}
    reply = _RESPONSE(**names)
    for name, array in zip(outputs, arrays, strict=True):
        datatype = DATATYPE_OF[array.dtype]
        tensor = reply.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            reply.raw_output_contents.append(array.tobytes())
        else:
            getattr(tensor.contents, _LIST_OF[datatype]).extend(np.ravel(array).tolist())
    if stream:
        reply = _STREAM_RESPONSE(infer_response=reply)
    return Reply(reply.SerializeToString(), model.name)
