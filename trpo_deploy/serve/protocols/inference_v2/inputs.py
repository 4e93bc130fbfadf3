"""The tensors of an infer request, whichever way they came: checked, and as inputs of the model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.protocols.inference_v2.datatypes import DATATYPE_OF, DTYPE_OF
from trpo_deploy.serve.protocols.json_io import type_name
from trpo_deploy.serve.protocols.policy_state import check_finite
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.nested_lists import NestedListError, array_from_lists
from trpo_deploy.spec.policy_spec import OBS
from trpo_deploy.spec.spaces import Array, DictSpace


def refuse(field: str, expected: str, received: object) -> RequestError:
    """The 422 answer to a part of the request."""
    text = str(received)[:100]
    message = f"{field}: expected {expected}, received {text}"
    return RequestError(422, "bad_tensor", message, field=field, expected=expected, received=text)


def bind_tensors(
    model: ServedModel, tensors: dict[str, Array], settings: Settings
) -> dict[str, Array]:
    """Check a request's tensors, and return the ONNX inputs with the states.

    Args:
        model: The model to run.
        tensors: The tensors by name; the states are removed from them.
        settings: The limits.

    Raises:
        RequestError: The model does not accept the tensors.
    """
    states = _take_states(model, tensors)
    inputs, batched = model.validate(_observation(model, tensors), settings)
    if not batched:
        wanted = [[-1, *tensor.shape] for tensor in model.policy.spec.inputs]
        raise refuse("inputs", f"the batch as first axis: shapes {wanted}", "no batch axis")
    _check_states(states, len(next(iter(inputs.values()))))
    return {**inputs, **states}


def check_keys(what: str, keys: Iterable[str], known: frozenset[str]) -> None:
    """Refuse keys that would otherwise be ignored."""
    unknown = [key for key in keys if key not in known]
    if unknown:
        names = ", ".join(sorted(known))
        expected = f"{names} only; nothing else is supported" if known else "none"
        raise refuse(what, expected, repr(min(unknown)))


def tensor_from_list(data: list[Any], datatype: object, shape: object, name: str) -> Array:
    """A tensor with its numbers in a list, flat or nested.

    Raises:
        RequestError: The list has no such tensor.
    """
    dtype, axes = dtype_and_shape(datatype, shape, name)
    try:
        return array_from_lists(data, dtype, booleans=dtype.kind == "b").reshape(axes)
    except NestedListError as error:
        raise refuse(name, f"{datatype} numbers", error.received) from error
    except ValueError as error:
        raise refuse(name, f"data of {datatype} and shape {list(axes)}", error) from error


def dtype_and_shape(
    datatype: object, shape: object, name: str
) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Check the datatype and the shape of a tensor.

    Raises:
        RequestError: One of them is not valid.
    """
    dtype = DTYPE_OF.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise refuse(name, f"a datatype of {', '.join(DTYPE_OF)}", describe(datatype))
    if not isinstance(shape, list) or len(shape) > 8 or not all(map(_is_length, shape)):
        raise refuse(name, "a shape of up to eight whole numbers", describe(shape))
    return dtype, tuple(shape)


def _is_length(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _take_states(model: ServedModel, tensors: dict[str, Array]) -> dict[str, Array]:
    """Remove the state inputs from the tensors. Over this protocol the client feeds them back."""
    states = {}
    for state in model.policy.spec.states:
        name, shape = state.input.name, [-1, *state.input.shape]
        array = tensors.pop(name, None)
        if array is None or array.dtype != state.input.dtype or array.shape[1:] != tuple(shape[1:]):
            datatype = DATATYPE_OF[np.dtype(state.input.dtype)]
            received = "no such input" if array is None else f"{array.dtype} {array.shape}"
            raise refuse(name, f"{datatype} of shape {shape}, zeros at first", received)
        states[name] = array
    return states


def _check_states(states: dict[str, Array], batch: int) -> None:
    for name, array in states.items():
        if len(array) != batch:
            raise refuse(name, f"the batch of {batch} that the observation has", len(array))
        check_finite(array)


def _observation(model: ServedModel, tensors: dict[str, Array]) -> object:
    """The observation in the tensors; each must have its input's datatype."""
    inputs = {tensor.name: tensor for tensor in model.policy.spec.inputs}
    for name, array in tensors.items():
        if name not in inputs:
            raise refuse("inputs", f"names out of {sorted(inputs)}", name)
        if array.dtype != inputs[name].dtype:
            datatype = DATATYPE_OF[np.dtype(inputs[name].dtype)]
            raise refuse(name, f"datatype {datatype}", DATATYPE_OF[array.dtype])
    if isinstance(model.policy.spec.observation_space, DictSpace):
        return {inputs[name].key: array for name, array in tensors.items()}
    if OBS not in tensors:
        raise refuse("inputs", f"the one input {OBS!r}", sorted(tensors))
    return tensors[OBS]


def describe(value: object) -> str:
    """A JSON value as short text. A list or object may be too large or too deep to print."""
    if value is None:
        return "nothing"
    text = "" if isinstance(value, (list, dict)) else f" {value!r}"
    return type_name(type(value)) + text[:60]
