"""The way from raw observations to the last layer, as nodes of a graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from trpo_deploy.export.graph.builder import GraphBuilder
from trpo_deploy.export.policy.network import (
    Activation,
    Branch,
    ChannelsFirst,
    Conv,
    Features,
    Flatten,
    FrameStack,
    Layer,
    Linear,
    Normalizer,
    ObservationInput,
    OneHot,
    ScaleImage,
)


def add_observation(graph: GraphBuilder, each: ObservationInput, sources: Mapping[str, str]) -> str:
    """From a raw observation to the float32 array that the features extractor is given.

    Args:
        graph: to add to.
        each: the observation.
        sources: the tensors that hold the graph's inputs, by the inputs' names.
    """
    name, prefix = sources[each.name], f"/{each.name}"
    dtype: npt.DTypeLike = each.space.dtype
    for step in each.steps:
        if isinstance(step, OneHot):
            return _one_hot(graph, name, step, prefix)
        if isinstance(step, Normalizer):
            name, dtype = _normalise(graph, name, step, dtype, prefix), np.float32
        elif isinstance(step, FrameStack):
            name = _stack(graph, name, step, sources[step.state.input.name], prefix)
        elif isinstance(step, ChannelsFirst):
            name = graph.add("Transpose", [name], f"{prefix}/channels_first", perm=[0, 3, 1, 2])
        elif isinstance(step, ScaleImage):
            name = graph.cast(name, np.float32, f"{prefix}/float")
            name = graph.add(
                "Div", [name, graph.constant(f"{prefix}/255", 255.0)], f"{prefix}/scaled"
            )
            dtype = np.float32
    return name if dtype == np.float32 else graph.cast(name, np.float32, f"{prefix}/float32")


def _normalise(
    graph: GraphBuilder, name: str, step: Normalizer, dtype: npt.DTypeLike, prefix: str
) -> str:
    # Never folded into scale and shift or into the first layer: that costs up to 1000 times the
    # rounding error, and the clip with it.
    precision = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    if np.dtype(dtype) != precision:
        name = graph.cast(name, precision, f"{prefix}/real")
    mean = graph.constant(f"{prefix}/mean", step.mean, precision)
    std = graph.constant(f"{prefix}/std", step.std, precision)
    low = graph.constant(f"{prefix}/low", -step.clip, precision)
    high = graph.constant(f"{prefix}/high", step.clip, precision)
    name = graph.add("Sub", [name, mean], f"{prefix}/centered")
    name = graph.add("Div", [name, std], f"{prefix}/scaled_by_std")
    name = graph.add("Clip", [name, low, high], f"{prefix}/normalized")
    if precision == np.float32:
        return name
    return graph.cast(name, np.float32, f"{prefix}/normalized_float32")


def _stack(graph: GraphBuilder, name: str, step: FrameStack, state: str, prefix: str) -> str:
    frames = graph.add("Concat", [state, name], f"{prefix}/frames", axis=step.axis)
    axis = step.axis if step.axis > 0 else len(step.state.input.shape)
    size = step.state.input.shape[axis - 1]
    graph.slice(frames, axis, -size, np.iinfo(np.int64).max, step.state.output)
    return frames


def _one_hot(graph: GraphBuilder, name: str, step: OneHot, prefix: str) -> str:
    """By comparing with a row of all values, for engines that lack OneHot."""
    sizes = step.sizes
    row = np.concatenate(
        [start + np.arange(size) for start, size in zip(step.starts, sizes, strict=True)]
    )
    values = graph.constant(f"{prefix}/values", row, np.int64)
    name = graph.reshape(name, [-1, len(sizes)], f"{prefix}/numbers")
    if len(sizes) > 1:
        columns = np.repeat(np.arange(len(sizes)), sizes)
        index = graph.constant(f"{prefix}/columns", columns, np.int64)
        name = graph.add("Gather", [name, index], f"{prefix}/repeated", axis=1)
    equal = graph.add("Equal", [name, values], f"{prefix}/is_value")
    return graph.cast(equal, np.float32, f"{prefix}/one_hot")


def add_features(
    graph: GraphBuilder, features: Features, observations: Mapping[str, str], prefix: str
) -> str:
    """Features of all observations, ``(batch, features)``.

    Args:
        graph: to add to.
        features: the extractor.
        observations: what :func:`add_observation` gave, by name.
        prefix: of the names of what is added.
    """
    if not isinstance(features, tuple):
        return features.add_to(graph, [observations[name] for name in features.inputs], prefix)
    parts = [_branch(graph, each, observations, prefix) for each in features]
    if len(parts) == 1:
        return parts[0]
    return graph.add("Concat", parts, f"{prefix}/features", axis=1)


def _branch(
    graph: GraphBuilder, branch: Branch, observations: Mapping[str, str], prefix: str
) -> str:
    return add_layers(graph, branch.layers, observations[branch.input], f"{prefix}/{branch.input}")


def add_layers(graph: GraphBuilder, layers: tuple[Layer, ...], name: str, prefix: str) -> str:
    """One layer after another."""
    for index, layer in enumerate(layers):
        name = add_layer(graph, layer, name, f"{prefix}/{index}")
    return name


def add_layer(
    graph: GraphBuilder, layer: Layer, name: str, prefix: str, output: str | None = None
) -> str:
    """One layer, whose output is named after the prefix unless a name is given."""
    output = output or f"{prefix}/out"
    if isinstance(layer, Flatten):
        return graph.add("Flatten", [name], output, axis=1)
    if isinstance(layer, Activation):
        return _ACTIVATIONS[layer.name](graph, name, layer.parameters, output)
    weight = graph.constant(f"{prefix}/weight", layer.weight)
    bias = graph.constant(f"{prefix}/bias", layer.bias)
    if isinstance(layer, Linear):
        return graph.add("Gemm", [name, weight, bias], output, transB=1)
    assert isinstance(layer, Conv)
    return graph.add(
        "Conv",
        [name, weight, bias],
        output,
        strides=layer.stride,
        pads=(*layer.padding, *layer.padding),
        dilations=layer.dilation,
        group=layer.groups,
    )


# --- activations ----------------------------------------------------------------------------

_Add = Callable[[GraphBuilder, str, tuple[float, ...], str], str]


def _operator(operator: str, *attributes: str) -> _Add:
    """A function that is one operator, with its parameters as attributes."""

    def add(graph: GraphBuilder, name: str, parameters: tuple[float, ...], output: str) -> str:
        values = dict(zip(attributes, parameters, strict=True))
        return graph.add(operator, [name], output, **values)

    return add


def _clip(graph: GraphBuilder, name: str, bounds: tuple[float, ...], output: str) -> str:
    low, high = bounds
    limits = [graph.constant(f"{output}/low", low), graph.constant(f"{output}/high", high)]
    return graph.add("Clip", [name, *limits], output)


def _celu(graph: GraphBuilder, name: str, parameters: tuple[float, ...], output: str) -> str:
    return graph.add("Celu", [name], output, alpha=parameters[0])


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


_ACTIVATIONS: dict[str, _Add] = {
    "CELU": _celu,
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
