"""The Open Inference Protocol, version 2, with binary tensors: what Triton's clients speak.

Source: the "Predict Protocol - Version 2" of KServe and its "Binary Tensor Data Extension" of
Triton. A request is a JSON object; with the header ``Inference-Header-Content-Length`` it is a
JSON object of that many bytes, followed by the raw tensors in the order in which it names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np
import orjson

from trpo_deploy import __version__
from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.messages import OCTETS, Reply, Request
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.protocols.batching import Question
from trpo_deploy.serve.protocols.frame_stack import check_finite
from trpo_deploy.serve.protocols.predict import dump_array, load_object
from trpo_deploy.serve.protocols.tensor import DTYPES, tensor_from_bytes
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.policy_spec import OBS
from trpo_deploy.spec.spaces import Array, DictSpace, Json

_JSON_LENGTH = b"inference-header-content-length"
_DATATYPES = {
    "BOOL": "bool",
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
_DTYPES = {datatype: DTYPES[numpy] for datatype, numpy in _DATATYPES.items()}
_NAMES = {dtype: datatype for datatype, dtype in _DTYPES.items()}


@dataclass(frozen=True, slots=True)
class InferenceV2:
    """Answers the protocol's requests."""

    registry: Registry
    settings: Settings

    def server(self) -> Reply:
        """``GET /v2``."""
        return _json(
            {"name": "trpo-deploy", "version": __version__, "extensions": ["binary_tensor_data"]}
        )

    def index(self) -> Reply:
        """``POST /v2/repository/index``: the models and whether they are ready."""
        rows = [
            {"name": name, "version": version, "state": "READY", "reason": slot.error or ""}
            for name, slot in self.registry.slots.items()
            for version in slot.versions
        ]
        rows += [
            {"name": name, "version": "", "state": "UNAVAILABLE", "reason": slot.error or ""}
            for name, slot in self.registry.slots.items()
            if not slot.versions
        ]
        return _json(rows)

    def metadata(self, request: Request) -> Reply:
        """``GET /v2/models/NAME``.

        Raises:
            RequestError: there is no such model.
        """
        model = self.registry.get(request.name, request.version)
        spec = model.policy.spec
        value = {
            "name": model.name,
            "versions": list(self.registry.slots[model.name].versions),
            "platform": "onnxruntime_onnx",
            "inputs": [_describe(t.name, t.dtype, t.shape) for t in spec.inputs],
            "outputs": [_describe(t.name, t.dtype, t.shape) for t in spec.outputs],
        }
        return _json(value, model.name)

    def ready(self, request: Request) -> Reply:
        """``GET /v2/models/NAME/ready``.

        Raises:
            RequestError: there is no such model, or it is not loaded.
        """
        model = self.registry.get(request.name, request.version)
        return _json({"name": model.name, "ready": True}, model.name)

    def infer(self, request: Request) -> Question:
        """``POST /v2/models/NAME/infer``: what is to be run for the answer.

        Raises:
            RequestError: the request cannot be answered.
        """
        model = self.registry.get(request.name, request.version)
        header, binary = _split(request)
        tensors = _read_inputs(header, binary)
        states = _take_states(model, tensors)
        inputs, batched = model.validate(_observation(model, tensors), self.settings)
        if not batched:
            wanted = [[-1, *t.shape] for t in model.policy.spec.inputs]
            raise _refuse("inputs", f"the batch as first axis: shapes {wanted}", "no batch axis")
        _check_states(states, len(next(iter(inputs.values()))))
        outputs = _wanted_outputs(model, header)
        reply = partial(_reply, model, header.get("id"), outputs)
        return Question(model.policy, tuple(outputs), {**inputs, **states}, reply)


def _describe(name: str, dtype: str, shape: tuple[int, ...]) -> Json:
    return {"name": name, "datatype": _NAMES[np.dtype(dtype)], "shape": [-1, *shape]}


def _json(value: Any, model: str = "") -> Reply:
    return Reply(orjson.dumps(value), model)


def _refuse(field: str, expected: str, received: object) -> RequestError:
    text = str(received)[:100]
    message = f"{field}: expected {expected}, received {text}"
    return RequestError(422, "bad_tensor", message, field=field, expected=expected, received=text)


def _split(request: Request) -> tuple[Json, memoryview]:
    """The JSON object of a request, and the bytes after it."""
    text = request.headers.get(_JSON_LENGTH)
    length = len(request.body)
    if text is not None:
        if not text.isdigit() or int(text) > length:
            expected = f"a number of bytes, at most the body's {length}"
            raise _refuse(_JSON_LENGTH.decode(), expected, text.decode("latin-1"))
        length = int(text)
    return load_object(request.body[:length]), memoryview(request.body)[length:]


def _read_inputs(header: Json, binary: memoryview) -> dict[str, Array]:
    inputs = header.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise _refuse("inputs", "a list of tensors", _what(inputs))
    tensors: dict[str, Array] = {}
    for item in inputs:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise _refuse("inputs", 'tensors with a "name"', _what(item))
        name = item["name"]
        if name in tensors:
            raise _refuse(name, "each input once", "it twice")
        size = _parameters(item).get("binary_data_size")
        if size is None:
            tensors[name] = _from_data(item, name)
            continue
        if type(size) is not int or not 0 <= size <= len(binary):
            raise _refuse(name, f"binary_data_size of 0 to {len(binary)} (what is left)", size)
        tensors[name] = tensor_from_bytes(binary[:size], *_dtype_and_shape(item, name), name)
        binary = binary[size:]
    if len(binary):
        raise _refuse("body", "no bytes beyond the named tensors", f"{len(binary)} more")
    return tensors


def _from_data(item: Json, name: str) -> Array:
    """A tensor whose numbers are in the JSON, flat or nested."""
    data = item.get("data")
    if not isinstance(data, list):
        raise _refuse(name, '"data", or "parameters" with "binary_data_size"', _what(data))
    dtype, shape = _dtype_and_shape(item, name)
    try:
        array = np.asarray(data)
        if array.dtype.kind not in ("f" if dtype.kind == "f" else "") + "biu":
            raise ValueError("not numbers of this datatype")
        with np.errstate(over="ignore"):
            return _cast_exactly(array, dtype).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise _refuse(name, f"data of {item['datatype']} and shape {list(shape)}", error) from error


def _cast_exactly(array: Array, dtype: np.dtype[Any]) -> Array:
    """To a dtype, if no whole number changes by it."""
    cast = array.astype(dtype)
    if dtype.kind != "f" and not np.array_equal(cast, array):
        raise ValueError("numbers that do not fit")
    return cast


def _dtype_and_shape(item: Json, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    datatype, shape = item.get("datatype"), item.get("shape")
    dtype = _DTYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise _refuse(name, f"a datatype of {', '.join(_DTYPES)}", _what(datatype))
    good = isinstance(shape, list) and len(shape) <= 8
    if not good or not all(type(n) is int and 0 <= n < 2**31 for n in shape or ()):
        raise _refuse(name, "a shape of up to eight whole numbers", _what(shape))
    return dtype, tuple(shape or ())


def _take_states(model: ServedModel, tensors: dict[str, Array]) -> dict[str, Array]:
    """The state inputs, taken out of the tensors: here the caller feeds outputs back itself."""
    states = {}
    for state in model.policy.spec.states:
        name, shape = state.input.name, [-1, *state.input.shape]
        array = tensors.pop(name, None)
        if array is None or array.dtype != state.input.dtype or array.shape[1:] != tuple(shape[1:]):
            datatype = _NAMES[np.dtype(state.input.dtype)]
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
    """The observation that tensors by name make up, each of the input's own datatype."""
    spaces = model.policy.spec.observation_spaces
    for name, array in tensors.items():
        space = spaces.get(name)
        if space is not None and array.dtype != space.dtype:
            raise _refuse(name, f"datatype {_NAMES[space.dtype]}", _NAMES[array.dtype])
    if isinstance(model.policy.spec.observation_space, DictSpace):
        return tensors
    if OBS not in tensors or len(tensors) > 1:
        raise _refuse("inputs", f"the one input {OBS!r}", sorted(tensors))
    return tensors[OBS]


def _wanted_outputs(model: ServedModel, header: Json) -> dict[str, bool]:
    """Names of the outputs to give, and whether each goes out as raw bytes."""
    binary = _parameters(header).get("binary_data_output") is True
    names = [tensor.name for tensor in model.policy.spec.outputs]
    wanted = header.get("outputs")
    if wanted is None:
        return dict.fromkeys(names, binary)
    if not isinstance(wanted, list) or not wanted:
        raise _refuse("outputs", "a list of outputs", _what(wanted))
    outputs = {}
    for item in wanted:
        if not isinstance(item, dict) or item.get("name") not in names:
            raise _refuse("outputs", f"names out of {names}", _what(item))
        outputs[item["name"]] = _parameters(item).get("binary_data", binary) is True
    return outputs


def _parameters(item: Json) -> Json:
    parameters = item.get("parameters", {})
    if not isinstance(parameters, dict):
        raise _refuse("parameters", "an object", _what(parameters))
    return parameters


def _what(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:60]}"


def _reply(
    model: ServedModel, request_id: object, outputs: dict[str, bool], arrays: list[Array]
) -> Reply:
    chunks = []
    described = []
    for (name, binary), array in zip(outputs.items(), arrays, strict=True):
        text = _describe_output(name, array.dtype, array.shape, binary)
        if binary:
            chunks.append(array.tobytes())
        else:
            text += dump_array(array.ravel()) + b"}"
        described.append(text)
    tail = b',"id":' + orjson.dumps(request_id) if isinstance(request_id, str) else b""
    header = b'%b,"outputs":[%b]%b}' % (model.v2_head, b",".join(described), tail)
    if not chunks:
        return Reply(header, model.name)
    length = ((_JSON_LENGTH, b"%d" % len(header)),)
    return Reply(b"".join([header, *chunks]), model.name, content_type=OCTETS, headers=length)


@lru_cache(256)
def _describe_output(
    name: str, dtype: np.dtype[Any], shape: tuple[int, ...], binary: bool
) -> bytes:
    """An output as JSON, up to its numbers where it holds them; loops ask for the same ones."""
    item: Json = {"name": name, "datatype": _NAMES[dtype], "shape": shape}
    if binary:
        item["parameters"] = {"binary_data_size": dtype.itemsize * prod(shape)}
        return orjson.dumps(item)
    return orjson.dumps(item)[:-1] + b',"data":'
