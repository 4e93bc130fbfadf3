"""Activation functions as nodes of a graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

from trpo_deploy.export.graph.builder import GraphBuilder

Add: TypeAlias = Callable[[GraphBuilder, str, tuple[float, ...], str], str]
"""From graph, input, the function's parameters and the output's name to the output's name."""


def _operator(operator: str, *attributes: str) -> Add:
    """A function that is a single operator; its parameters are attributes, in order."""

    def add(graph: GraphBuilder, name: str, parameters: tuple[float, ...], output: str) -> str:
        values = dict(zip(attributes, parameters, strict=True))
        return graph.add(operator, [name], output, **values)

    return add


def _clip(graph: GraphBuilder, name: str, bounds: tuple[float, ...], output: str) -> str:
    low, high = bounds
    limits = [graph.constant(f"{output}/low", low), graph.constant(f"{output}/high", high)]
    return graph.add("Clip", [name, *limits], output)


def _gelu(graph: GraphBuilder, name: str, _: tuple[float, ...], output: str) -> str:
    """``x * (1 + erf(x / sqrt(2))) / 2``."""
    root = graph.constant(f"{output}/root", math.sqrt(2.0))
    one, half = graph.constant(f"{output}/one", 1.0), graph.constant(f"{output}/half", 0.5)
    erf = graph.add("Erf", [graph.add("Div", [name, root], f"{output}/x")], f"{output}/erf")
    factor = graph.add("Add", [erf, one], f"{output}/factor")
    product = graph.add("Mul", [name, factor], f"{output}/product")
    return graph.add("Mul", [product, half], output)


def _silu(graph: GraphBuilder, name: str, _: tuple[float, ...], output: str) -> str:
    """``x * sigmoid(x)``."""
    return graph.add("Mul", [name, graph.add("Sigmoid", [name], f"{output}/gate")], output)


def _mish(graph: GraphBuilder, name: str, _: tuple[float, ...], output: str) -> str:
    """``x * tanh(softplus(x))``."""
    softplus = graph.add("Softplus", [name], f"{output}/softplus")
    return graph.add("Mul", [name, graph.add("Tanh", [softplus], f"{output}/gate")], output)


def _log_sigmoid(graph: GraphBuilder, name: str, _: tuple[float, ...], output: str) -> str:
    """``-softplus(-x)``."""
    negative = graph.add("Neg", [name], f"{output}/negative")
    return graph.add("Neg", [graph.add("Softplus", [negative], f"{output}/softplus")], output)


def _hard_sigmoid(graph: GraphBuilder, name: str, _: tuple[float, ...], output: str) -> str:
    return graph.add("HardSigmoid", [name], output, alpha=1.0 / 6.0, beta=0.5)


def _hard_swish(graph: GraphBuilder, name: str, _: tuple[float, ...], output: str) -> str:
    """``x * hardsigmoid(x)``."""
    return graph.add("Mul", [name, _hard_sigmoid(graph, name, (), f"{output}/gate")], output)


ACTIVATION_NODES: Mapping[str, Add] = {
    "CELU": _operator("Celu", "alpha"),
    "ELU": _operator("Elu", "alpha"),
    "GELU": _gelu,
    "Hardsigmoid": _hard_sigmoid,
    "Hardswish": _hard_swish,
    "Hardtanh": _clip,
    "LeakyReLU": _operator("LeakyRelu", "alpha"),
    "LogSigmoid": _log_sigmoid,
    "Mish": _mish,
    "ReLU": _operator("Relu"),
    "ReLU6": _clip,
    "SELU": _operator("Selu"),
    "SiLU": _silu,
    "Sigmoid": _operator("Sigmoid"),
    "Softplus": _operator("Softplus"),
    "Softsign": _operator("Softsign"),
    "Tanh": _operator("Tanh"),
}
"""How to add each function of :data:`~trpo_deploy.sb3.activations.ACTIVATIONS` to a graph."""
