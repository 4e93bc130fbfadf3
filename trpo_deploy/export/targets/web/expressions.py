"""Element-wise functions as JavaScript expressions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trpo_deploy.export.targets.web.literals import number

_WRAPPED: Mapping[str, str] = {
    "bool": "Number(({0}) != 0)",
    "int8": "({0}) << 24 >> 24",
    "int16": "({0}) << 16 >> 16",
    "int32": "({0}) | 0",
    "uint8": "({0}) & 255",
    "uint16": "({0}) & 65535",
    "uint32": "({0}) >>> 0",
    "int64": "Math.trunc({0})",
    "float32": "Math.fround({0})",
    "float64": "{0}",
}
"""A number as one of a dtype. Integers of 64 bits are doubles, exact up to 2**53."""


def call(
    function: str, arguments: list[str], dtype: np.dtype[Any], parameters: tuple[float, ...]
) -> str:
    """An ONNX function of simple expressions.

    Args:
        function: Name of the operator.
        arguments: Names of variables, elements of arrays, or literals, which may be repeated.
        dtype: Dtype of the result.
        parameters: The operator's attributes.
    """
    constants = [number(value) for value in parameters]
    text = _TEMPLATES[function].format(*arguments, *constants)
    return _WRAPPED[str(dtype)].format(text)


_TEMPLATES: Mapping[str, str] = {
    "Abs": "Math.abs({0})",
    "Add": "{0} + {1}",
    "Cast": "{0}",
    "Celu": "{0} < 0 ? {1} * Math.expm1({0} / {1}) : {0}",
    "Div": "{0} / {1}",
    "Elu": "{0} < 0 ? {1} * Math.expm1({0}) : {0}",
    "Equal": "{0} === {1}",
    "Erf": "erf({0})",
    "Exp": "Math.exp({0})",
    "Greater": "{0} > {1}",
    "HardSigmoid": "clip({1} * {0} + {2}, 0, 1)",
    "HardSwish": "{0} * clip({0} / 6 + 0.5, 0, 1)",
    "LeakyRelu": "{0} < 0 ? {1} * {0} : {0}",
    "Less": "{0} < {1}",
    "Log": "Math.log({0})",
    "Max": "Math.max({0}, {1})",
    "Min": "Math.min({0}, {1})",
    "Mul": "{0} * {1}",
    "Neg": "-{0}",
    "Pow": "{0} ** {1}",
    "Reciprocal": "1 / {0}",
    "Relu": "Math.max({0}, 0)",
    "Selu": "{2} * ({0} > 0 ? {0} : {1} * Math.expm1({0}))",
    "Sigmoid": "1 / (1 + Math.exp(-{0}))",
    "Softplus": "Math.max({0}, 0) + Math.log1p(Math.exp(-Math.abs({0})))",
    "Softsign": "{0} / (1 + Math.abs({0}))",
    "Sqrt": "Math.sqrt({0})",
    "Sub": "{0} - {1}",
    "Tanh": "Math.tanh({0})",
    "Where": "{0} ? {1} : {2}",
}
