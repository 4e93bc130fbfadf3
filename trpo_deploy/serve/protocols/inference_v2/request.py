"""An infer request: JSON, optionally followed by raw tensors.

Whatever changes the meaning of a request and is not supported (sequences, shared memory,
classification, priorities, timeouts) is refused, and so is every unknown key and parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.messages import Request
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.protocols.inference_v2.datatypes import DATATYPE_OF, DTYPE_OF
from trpo_deploy.serve.protocols.json_io import load_object, type_name
from trpo_deploy.serve.protocols.policy_state import check_finite
from trpo_deploy.serve.protocols.tensor import tensor_from_bytes
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.nested_lists import NestedListError, array_from_lists
from trpo_deploy.spec.policy_spec import OBS
from trpo_deploy.spec.spaces import Array, DictSpace, Json

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
    tensors = _read_inputs(header, binary)
    states = _take_states(model, tensors)
    inputs, batched = model.validate(_observation(model, tensors), settings)
    if not batched:
        wanted = [[-1, *tensor.shape] for tensor in model.policy.spec.inputs]
        raise _refuse("inputs", f"the batch as first axis: shapes {wanted}", "no batch axis")
    _check_states(states, len(next(iter(inputs.values()))))
    outputs = _requested_outputs(model, header)
    return InferRequest({**inputs, **states}, outputs, header.get("id"))


def _refuse(field: str, expected: str, received: object) -> RequestError:
    text = str(received)[:100]
    message = f"{field}: expected {expected}, received {text}"
    return RequestError(422, "bad_tensor", message, field=field, expected=expected, received=text)


def _split_body(request: Request) -> tuple[Json, memoryview]:
    """Split a body into its JSON object and the raw tensors after it."""
    text = request.headers.get(JSON_LENGTH_HEADER)
    length = len(request.body)
    if text is not None:
        # int() refuses thousands of digits.
        if not text.isdigit() or len(text) > 15 or int(text) > length:
            expected = f"a number of bytes, at most the body's {length}"
            raise _refuse(JSON_LENGTH_HEADER.decode(), expected, text.decode("latin-1"))
        length = int(text)
    return load_object(request.body[:length]), memoryview(request.body)[length:]


def _check_header(header: Json, model: str) -> None:
    """Check what is neither an input nor an output."""
    _check_keys("the request", header, _REQUEST_KEYS)
    if not isinstance(header.get("id"), (str, type(None))):
        raise _refuse("id", "text", _describe(header["id"]))
    if header.get("model_name", model) != model:  # KServe's client repeats the URL's name
        raise _refuse("model_name", f"the URL's {model!r}", _describe(header["model_name"]))


def _check_keys(what: str, value: Json, known: frozenset[str]) -> None:
    """Refuse keys that would otherwise be ignored."""
    if not value.keys() <= known:
        unknown = min(value.keys() - known)
        expected = f"{', '.join(sorted(known))} only; nothing else is supported"
        raise _refuse(what, expected, repr(unknown))


def _read_inputs(header: Json, binary: memoryview) -> dict[str, Array]:
    inputs = header.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise _refuse("inputs", "a list of tensors", _describe(inputs))
    tensors: dict[str, Array] = {}
    for item in inputs:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise _refuse("inputs", 'tensors with a "name"', _describe(item))
        name = item["name"]
        if name in tensors:
            raise _refuse(name, "each input once", "it twice")
        _check_keys(name, item, _INPUT_KEYS)
        size = _parameters(item, _INPUT_PARAMETERS).get("binary_data_size")
        if size is None:
            tensors[name] = _tensor_from_data(item, name)
            continue
        if type(size) is not int or not 0 <= size <= len(binary):
            raise _refuse(name, f"binary_data_size of 0 to {len(binary)} (the rest)", size)
        if "data" in item:
            raise _refuse(name, 'either "data" or "binary_data_size"', "both")
        tensors[name] = tensor_from_bytes(binary[:size], *_dtype_and_shape(item, name), name)
        binary = binary[size:]
    if len(binary):
        raise _refuse("body", "no bytes beyond the named tensors", f"{len(binary)} more")
    return tensors


def _tensor_from_data(item: Json, name: str) -> Array:
    """A tensor with its numbers in the JSON, flat or nested."""
    data = item.get("data")
    if not isinstance(data, list):
        raise _refuse(name, '"data", or "parameters" with "binary_data_size"', _describe(data))
    dtype, shape = _dtype_and_shape(item, name)
    try:
        return array_from_lists(data, dtype, booleans=dtype.kind == "b").reshape(shape)
    except NestedListError as error:
        raise _refuse(name, f"{item['datatype']} numbers", error.received) from error
    except ValueError as error:
        raise _refuse(name, f"data of {item['datatype']} and shape {list(shape)}", error) from error


def _dtype_and_shape(item: Json, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    datatype, shape = item.get("datatype"), item.get("shape")
    dtype = DTYPE_OF.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise _refuse(name, f"a datatype of {', '.join(DTYPE_OF)}", _describe(datatype))
    good = isinstance(shape, list) and len(shape) <= 8
    if not good or not all(type(n) is int and 0 <= n < 2**31 for n in shape or ()):
        raise _refuse(name, "a shape of up to eight whole numbers", _describe(shape))
    return dtype, tuple(shape or ())


def _take_states(model: ServedModel, tensors: dict[str, Array]) -> dict[str, Array]:
    """Remove the state inputs from the tensors. Over this protocol the client feeds them back."""
    states = {}
    for state in model.policy.spec.states:
        name, shape = state.input.name, [-1, *state.input.shape]
        array = tensors.pop(name, None)
        if array is None or array.dtype != state.input.dtype or array.shape[1:] != tuple(shape[1:]):
            datatype = DATATYPE_OF[np.dtype(state.input.dtype)]
            received = "no such input" if array is None else f"{array.dtype} {array.shape}"
            raise _refuse(name, f"{datatype} of shape {shape}, zeros at first", received)
        states[name] = array
    return states


def _check_states(states: dict[str, Array], batch: int) -> None:
    for name, array in states.items():
        if len(array) != batch:
            raise _refuse(name, f"the batch of {batch} that the observation has", len(array))
        check_finite(array)


def _observation(model: ServedModel, tensors: dict[str, Array]) -> object:
    """The observation in the tensors; each must have its input's datatype."""
    inputs = {tensor.name: tensor for tensor in model.policy.spec.inputs}
    for name, array in tensors.items():
        if name not in inputs:
            raise _refuse("inputs", f"names out of {sorted(inputs)}", name)
        if array.dtype != inputs[name].dtype:
            datatype = DATATYPE_OF[np.dtype(inputs[name].dtype)]
            raise _refuse(name, f"datatype {datatype}", DATATYPE_OF[array.dtype])
    if isinstance(model.policy.spec.observation_space, DictSpace):
        return {inputs[name].key: array for name, array in tensors.items()}
    if OBS not in tensors:
        raise _refuse("inputs", f"the one input {OBS!r}", sorted(tensors))
    return tensors[OBS]


def _requested_outputs(model: ServedModel, header: Json) -> dict[str, bool]:
    """Names of the requested outputs, and whether each is sent as raw bytes."""
    binary = _flag(header, _REQUEST_PARAMETERS, "binary_data_output", False)
    names = [tensor.name for tensor in model.policy.spec.outputs]
    wanted = header.get("outputs")
    if wanted is None:
        return dict.fromkeys(names, binary)
    if not isinstance(wanted, list) or not wanted:
        raise _refuse("outputs", "a list of outputs", _describe(wanted))
    outputs: dict[str, bool] = {}
    for item in wanted:
        if not isinstance(item, dict) or item.get("name") not in names:
            raise _refuse("outputs", f"names out of {names}", _describe(item))
        name = item["name"]
        if name in outputs:
            raise _refuse(name, "each output once", "it twice")
        _check_keys(name, item, _OUTPUT_KEYS)
        outputs[name] = _flag(item, _OUTPUT_PARAMETERS, "binary_data", binary)
    return outputs


def _flag(item: Json, known: frozenset[str], key: str, default: bool) -> bool:
    value = _parameters(item, known).get(key, default)
    if type(value) is not bool:
        raise _refuse(key, "true or false", _describe(value))
    return value


def _parameters(item: Json, known: frozenset[str]) -> Json:
    parameters = item.get("parameters", {})
    if not isinstance(parameters, dict):
        raise _refuse("parameters", "an object", _describe(parameters))
    _check_keys("parameters", parameters, known)
    return parameters


def _describe(value: object) -> str:
    """A JSON value as short text. A list or object may be too large or too deep to print."""
    if value is None:
        return "nothing"
    text = "" if isinstance(value, (list, dict)) else f" {value!r}"
    return type_name(type(value)) + text[:60]
