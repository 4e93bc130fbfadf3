"""An infer request: JSON, optionally followed by raw tensors.

Whatever changes the meaning of a request and is not supported (sequences, shared memory,
classification, priorities, timeouts) is refused, and so is every unknown key and parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

from trpo_deploy.serve.messages import Request
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.protocols.inference_v2.inputs import (
    bind_tensors,
    check_keys,
    describe,
    dtype_and_shape,
    refuse,
    tensor_from_list,
)
from trpo_deploy.serve.protocols.json_io import load_object
from trpo_deploy.serve.protocols.tensor import tensor_from_bytes
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.spaces import Array, Json

JSON_LENGTH_HEADER = b"inference-header-content-length"

_REQUEST_KEYS = frozenset({"id", "model_name", "parameters", "inputs", "outputs"})
_INPUT_KEYS = frozenset({"name", "shape", "datatype", "parameters", "data"})
_OUTPUT_KEYS = frozenset({"name", "parameters"})
_REQUEST_PARAMETERS = frozenset({"binary_data_output"})
_INPUT_PARAMETERS = frozenset({"binary_data_size"})
_OUTPUT_PARAMETERS = frozenset({"binary_data"})


@dataclass(slots=True)
class InferRequest:
    """A validated infer request."""

    inputs: dict[str, Array]
    """ONNX inputs, states included, each with a batch axis."""
    outputs: dict[str, bool]
    """Names of the requested outputs, and whether each is sent as raw bytes."""
    id: str | None
    """The client's identifier of the request, which the reply repeats."""


def parse_infer_request(request: Request, model: ServedModel, settings: Settings) -> InferRequest:
    """Read and validate an infer request.

    Raises:
        RequestError: The request does not follow the protocol, or the model does not accept it.
    """
    header, binary = _split_body(request)
    _check_header(header, model.name)
    inputs = bind_tensors(model, _read_inputs(header, binary), settings)
    outputs = _requested_outputs(model, header)
    return InferRequest(inputs, outputs, header.get("id"))


def _split_body(request: Request) -> tuple[Json, memoryview]:
    """Split a body into its JSON object and the raw tensors after it."""
    text = request.headers.get(JSON_LENGTH_HEADER)
    length = len(request.body)
    if text is not None:
        # int() refuses thousands of digits.
        if not text.isdigit() or len(text) > 15 or int(text) > length:
            expected = f"a number of bytes, at most the body's {length}"
            raise refuse(JSON_LENGTH_HEADER.decode(), expected, text.decode("latin-1"))
        length = int(text)
    return load_object(request.body[:length]), memoryview(request.body)[length:]


def _check_header(header: Json, model: str) -> None:
    """Check what is neither an input nor an output."""
    check_keys("the request", header, _REQUEST_KEYS)
    if not isinstance(header.get("id"), (str, type(None))):
        raise refuse("id", "text", describe(header["id"]))
    if header.get("model_name", model) != model:  # KServe's client repeats the URL's name
        raise refuse("model_name", f"the URL's {model!r}", describe(header["model_name"]))


def _read_inputs(header: Json, binary: memoryview) -> dict[str, Array]:
    inputs = header.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise refuse("inputs", "a list of tensors", describe(inputs))
    tensors: dict[str, Array] = {}
    for item in inputs:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise refuse("inputs", 'tensors with a "name"', describe(item))
        name = item["name"]
        if name in tensors:
            raise refuse(name, "each input once", "it twice")
        check_keys(name, item, _INPUT_KEYS)
        size = _parameters(item, _INPUT_PARAMETERS).get("binary_data_size")
        if size is None:
            tensors[name] = _tensor_from_data(item, name)
            continue
        if type(size) is not int or not 0 <= size <= len(binary):
            raise refuse(name, f"binary_data_size of 0 to {len(binary)} (the rest)", size)
        if "data" in item:
            raise refuse(name, 'either "data" or "binary_data_size"', "both")
        dtype = dtype_and_shape(item.get("datatype"), item.get("shape"), name)
        tensors[name] = tensor_from_bytes(binary[:size], *dtype, name)
        binary = binary[size:]
    if len(binary):
        raise refuse("body", "no bytes beyond the named tensors", f"{len(binary)} more")
    return tensors


def _tensor_from_data(item: Json, name: str) -> Array:
    data = item.get("data")
    if not isinstance(data, list):
        raise refuse(name, '"data", or "parameters" with "binary_data_size"', describe(data))
    return tensor_from_list(data, item.get("datatype"), item.get("shape"), name)


def _requested_outputs(model: ServedModel, header: Json) -> dict[str, bool]:
    """Names of the requested outputs, and whether each is sent as raw bytes."""
    binary = _flag(header, _REQUEST_PARAMETERS, "binary_data_output", False)
    names = [tensor.name for tensor in model.policy.spec.outputs]
    wanted = header.get("outputs")
    if wanted is None:
        return dict.fromkeys(names, binary)
    if not isinstance(wanted, list) or not wanted:
        raise refuse("outputs", "a list of outputs", describe(wanted))
    outputs: dict[str, bool] = {}
    for item in wanted:
        if not isinstance(item, dict) or item.get("name") not in names:
            raise refuse("outputs", f"names out of {names}", describe(item))
        name = item["name"]
        if name in outputs:
            raise refuse(name, "each output once", "it twice")
        check_keys(name, item, _OUTPUT_KEYS)
        outputs[name] = _flag(item, _OUTPUT_PARAMETERS, "binary_data", binary)
    return outputs


def _flag(item: Json, known: frozenset[str], key: str, default: bool) -> bool:
    value = _parameters(item, known).get(key, default)
    if type(value) is not bool:
        raise refuse(key, "true or false", describe(value))
    return value


def _parameters(item: Json, known: frozenset[str]) -> Json:
    parameters = item.get("parameters", {})
    if not isinstance(parameters, dict):
        raise refuse("parameters", "an object", describe(parameters))
    check_keys("parameters", parameters, known)
    return parameters
