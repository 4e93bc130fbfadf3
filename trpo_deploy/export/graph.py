"""An actor network as one ONNX model, written operator by operator.

Built from the weights with ``onnx.helper`` and not by tracing, so that a file holds what this
module says and nothing of the exporting machine, loads in old engines, and is the same bytes
each time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trpo_deploy.export.actor import ActorNetwork, Layer, Linear, Normalizer
from trpo_deploy.export.profiles import Profile
from trpo_deploy.spec import (
    ACTION,
    METADATA_KEY,
    OBS,
    Array,
    BoxSpace,
    DiscreteSpace,
    PolicySpec,
    Space,
    TensorSpec,
)


def build_model(actor: ActorNetwork, spec: PolicySpec, profile: Profile) -> onnx.ModelProto:
    """The ONNX model of an actor, with its spec in the metadata.

    The tensor named :attr:`ActorNetwork.parameter_name` holds the distribution's parameters,
    so that a check can look at more than the action.
    """
    graph = _Graph()
    features = _features(graph, actor)
    parameters = _mlp(graph, features, actor.layers, actor.parameter_name)
    _action(graph, parameters, actor.action_space)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "policy",
            [_value_info(tensor) for tensor in spec.inputs],
            [_value_info(tensor) for tensor in spec.outputs],
            graph.initializers,
        ),
        producer_name="trpo-deploy",
        producer_version=spec.versions.get("trpo-deploy", ""),
        ir_version=profile.ir_version,
        opset_imports=[helper.make_opsetid("", profile.opset)],
    )
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(model, full_check=True)
    return model


def preprocessing_in_words(actor: ActorNetwork) -> tuple[str, ...]:
    """What :func:`build_model` puts around the network, a step a line."""
    steps = []
    if actor.normalizer is not None:
        steps.append(
            f"normalise: clip((obs - mean) / std, -{actor.normalizer.clip:g}, "
            f"{actor.normalizer.clip:g})"
        )
    if isinstance(actor.observation_space, DiscreteSpace):
        steps.append(f"one-hot of {actor.observation_space.n}")
    if isinstance(actor.action_space, DiscreteSpace):
        start = actor.action_space.start
        steps.append("most probable action" + (f", counted from {start}" if start else ""))
    else:
        steps.append("mean of the Gaussian, clipped to the action bounds")
    return tuple(steps)


@dataclass
class _Graph:
    """Nodes and constants in the order in which they were added."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.initializers.append(numpy_helper.from_array(np.array(value, dtype, order="C"), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output


def _value_info(tensor: TensorSpec) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return helper.make_tensor_value_info(tensor.name, dtype, ["batch", *tensor.shape])


def _features(graph: _Graph, actor: ActorNetwork) -> str:
    """Raw observation to flat float32 features, ``(batch, features)``."""
    space = actor.observation_space
    name = OBS
    if isinstance(space, DiscreteSpace):
        return _one_hot(graph, name, space)
    if space.dtype != np.float32:
        name = graph.add("Cast", [name], "obs_float", to=TensorProto.FLOAT)
    if actor.normalizer is not None:
        name = _normalise(graph, name, actor.normalizer)
    if len(space.shape) != 1:
        name = graph.add("Flatten", [name], "features", axis=1)
    return name


def _normalise(graph: _Graph, name: str, normalizer: Normalizer) -> str:
    # Never folded into scale and shift or into the first layer: that costs up to 1000 times the
    # rounding error, and the clip with it.
    mean = graph.constant("obs_mean", normalizer.mean)
    std = graph.constant("obs_std", normalizer.std)
    low = graph.constant("obs_low", -normalizer.clip)
    high = graph.constant("obs_high", normalizer.clip)
    name = graph.add("Sub", [name, mean], "obs_centered")
    name = graph.add("Div", [name, std], "obs_scaled")
    return graph.add("Clip", [name, low, high], "obs_normalized")


def _one_hot(graph: _Graph, name: str, space: DiscreteSpace) -> str:
    """By comparing with a row of all values, for engines that lack OneHot."""
    values = graph.constant("values", np.arange(space.start, space.start + space.n), np.int64)
    axes = graph.constant("last_axis", [1], np.int64)
    column = graph.add("Unsqueeze", [name, axes], "column")
    equal = graph.add("Equal", [column, values], "is_value")
    return graph.add("Cast", [equal], "one_hot", to=TensorProto.FLOAT)


def _mlp(graph: _Graph, name: str, layers: tuple[Layer, ...], output: str) -> str:
    for index, layer in enumerate(layers):
        last = index == len(layers) - 1
        target = output if last else f"layer_{index}"
        if isinstance(layer, Linear):
            weight = graph.constant(f"weight_{index}", layer.weight)
            bias = graph.constant(f"bias_{index}", layer.bias)
            name = graph.add("Gemm", [name, weight, bias], target, transB=1)
        else:
            attributes = {} if layer.alpha is None else {"alpha": layer.alpha}
            name = graph.add(layer.operator, [name], target, **attributes)
    return name


def _action(graph: _Graph, parameters: str, space: Space) -> None:
    """The distribution's mode, as the environment takes it."""
    if isinstance(space, DiscreteSpace):
        # Of probabilities, as Stable-Baselines3 does: logits that differ may tie as such.
        probabilities = graph.add("Softmax", [parameters], "probabilities", axis=1)
        target = "index" if space.start else ACTION
        index = graph.add("ArgMax", [probabilities], target, axis=1, keepdims=0)
        if space.start:
            graph.add("Add", [index, graph.constant("start", space.start, np.int64)], ACTION)
        return
    assert isinstance(space, BoxSpace)
    if len(space.shape) != 1:
        shape = graph.constant("action_shape", [-1, *space.shape], np.int64)
        parameters = graph.add("Reshape", [parameters, shape], "mean_shaped")
    low, high = _float32_bounds(space)
    # Max and Min and not Clip, whose bounds must be scalars.
    lower = graph.constant("action_low", low)
    upper = graph.constant("action_high", high)
    bounded = graph.add("Max", [parameters, lower], "mean_bounded_below")
    graph.add("Min", [bounded, upper], ACTION)


def _float32_bounds(space: BoxSpace) -> tuple[Array, Array]:
    """The action's bounds, rounded inwards so that a float64 environment accepts both."""
    low, high = space.low.astype(np.float32), space.high.astype(np.float32)
    low = np.where(low < space.low, np.nextafter(low, np.float32(np.inf)), low)
    high = np.where(high > space.high, np.nextafter(high, np.float32(-np.inf)), high)
    return low, high
