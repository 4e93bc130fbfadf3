"""Write small ONNX policies for every kind of space, without any training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.environment import EnvironmentSpec
from trpo_deploy.spec.policy_spec import ACTION, METADATA_KEY, PolicySpec, StateSpec, TensorSpec
from trpo_deploy.spec.spaces import (
    BoxSpace,
    DictSpace,
    DiscreteSpace,
    MultiBinarySpace,
    MultiDiscreteSpace,
    Space,
)


def box(
    *shape: int, low: float = -np.inf, high: float = np.inf, dtype: str = "float32"
) -> BoxSpace:
    return BoxSpace(np.full(shape, low, dtype), np.full(shape, high, dtype))


IMAGE = BoxSpace(np.zeros((12, 12, 3), np.uint8), np.full((12, 12, 3), 255, np.uint8))
OBSERVATION_SPACES: dict[str, Space | DictSpace] = {
    "box": box(4),
    "bounded_box": box(2, 3, low=-2.0, high=2.0),
    "float64_box": box(3, dtype="float64"),
    "discrete": DiscreteSpace(5, start=-1),
    "multi_discrete": MultiDiscreteSpace(np.array([3, 4]), np.array([0, 1])),
    "multi_binary": MultiBinarySpace((6,)),
    "image": IMAGE,
    "bool_box": box(5, low=False, high=True, dtype="bool"),
    "dict": DictSpace({"camera": IMAGE, "goal": DiscreteSpace(3), "joints": box(2)}),
}
ACTION_SPACES: dict[str, Space] = {
    "box": BoxSpace(np.array([-1, -2], np.float32), np.array([1, 2], np.float32)),
    "discrete": DiscreteSpace(4, start=2),
    "multi_discrete": MultiDiscreteSpace(np.array([2, 3]), np.array([0, 5])),
    "multi_binary": MultiBinarySpace((3,)),
}


TEST_ENVIRONMENT = EnvironmentSpec("Test-v0")


def make_spec(
    observation_space: Space | DictSpace,
    action_space: Space,
    outputs: tuple[TensorSpec, ...] = (),
    **changes: Any,
) -> PolicySpec:
    action = TensorSpec(ACTION, str(action_space.dtype), action_space.shape)
    changes.setdefault("environment", TEST_ENVIRONMENT)
    return PolicySpec(
        observation_space=observation_space,
        action_space=action_space,
        outputs=(action, *outputs),
        algorithm="TRPO",
        normalizer=None,
        preprocessing=(),
        **changes,
    )


def change_spec(path: Path, **changes: Any) -> None:
    """Write a policy file again with some facts of its spec changed."""
    model = onnx.load(str(path))
    spec = OnnxPolicy(path).spec
    helper.set_model_props(model, {METADATA_KEY: replace(spec, **changes).to_json()})
    onnx.save(model, str(path))


def write_policy(
    path: Path,
    observation_space: Space | DictSpace | None = None,
    action_space: Space | None = None,
    *,
    seed: int = 0,
    metadata: str | None = None,
    hidden: int = 0,
    distribution: bool = False,
    squash: bool = False,
    frames: int = 1,
    environment: EnvironmentSpec = TEST_ENVIRONMENT,
) -> Path:
    """Write a random linear policy (or one with a tanh layer of ``hidden`` units).

    Args:
        path: File to write; its folder is made.
        observation_space: Default: a Box of four numbers.
        action_space: Default: a bounded Box of two numbers.
        seed: Seed of the weights.
        metadata: Text to store instead of the spec; empty for none.
        hidden: Units of a hidden layer.
        distribution: Whether to add the outputs that sampling needs.
        squash: Whether to squash a Box action with tanh instead of clipping it.
        frames: Number of frames of the input ``obs`` to stack along its last axis.
        environment: The environment in the spec.
    """
    observation = OBSERVATION_SPACES["box"] if observation_space is None else observation_space
    action = ACTION_SPACES["box"] if action_space is None else action_space
    states: tuple[StateSpec, ...] = ()
    if frames > 1:
        assert isinstance(observation, Space)
        shape = (*observation.shape[:-1], observation.shape[-1] * (frames - 1))
        state = TensorSpec("state_obs", str(observation.dtype), shape)
        states = (StateSpec(state, "next_state_obs"),)
    parameters = _parameters(action) if distribution else ()
    following = tuple(TensorSpec(s.output, s.input.dtype, s.input.shape) for s in states)
    spec = make_spec(
        observation,
        action,
        outputs=(*parameters, *following),
        states=states,
        environment=environment,
        squashed=squash,
    )
    model = _model(spec, np.random.default_rng(seed), hidden, squash)
    text = spec.to_json() if metadata is None else metadata
    if text:
        helper.set_model_props(model, {METADATA_KEY: text})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def _parameters(space: Space) -> tuple[TensorSpec, ...]:
    """The parameters of the action's distribution."""
    if isinstance(space, BoxSpace):
        return tuple(TensorSpec(name, "float32", space.shape) for name in ("mean", "std"))
    if isinstance(space, MultiDiscreteSpace):
        return (TensorSpec("logits", "float32", (int(space.nvec.sum()),)),)
    n = (space.n,) if isinstance(space, DiscreteSpace) else space.shape
    return (TensorSpec("logits", "float32", n),)


def _model(
    spec: PolicySpec, rng: np.random.Generator, hidden: int, squash: bool
) -> onnx.ModelProto:
    graph = _Graph()
    if spec.states:
        stacked = graph.node("Concat", "state_obs", "obs", axis=-1)
        newest = spec.observation_spaces["obs"].shape[-1]
        starts, ends = np.array([newest], np.int64), np.array([2**31], np.int64)
        kept = (
            graph.constant(starts),
            graph.constant(ends),
            graph.constant(np.array([-1], np.int64)),
        )
        graph.node("Slice", stacked, *kept, output="next_state_obs")
        size = spec.states[0].input.shape
        width = int(np.prod(size)) + int(np.prod(spec.observation_spaces["obs"].shape))
        features = graph.flat(stacked, spec.observation_spaces["obs"], width)
    else:
        spaces = spec.observation_spaces
        features, width = graph.features({each.name: spaces[each.key] for each in spec.inputs})
    if hidden:
        features = graph.node("Tanh", graph.linear(features, width, hidden, rng))
        width = hidden
    graph.action(features, width, spec.action_space, rng, squash)
    inputs = [_tensor(tensor) for tensor in spec.inputs]
    outputs = [_tensor(tensor) for tensor in spec.outputs]
    return helper.make_model(
        helper.make_graph(graph.nodes, "policy", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )


def _tensor(tensor: TensorSpec) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return helper.make_tensor_value_info(tensor.name, dtype, ["batch", *tensor.shape])


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def linear(self, features: str, width: int, out: int, rng: np.random.Generator) -> str:
        # Scaled so that not every action is at its bounds.
        weights = rng.normal(scale=width**-0.5, size=(width, out))
        weight = self.constant(weights.astype(np.float32))
        bias = self.constant(rng.normal(scale=0.1, size=out).astype(np.float32))
        return self.node("Gemm", features, weight, bias)

    def features(self, spaces: Mapping[str, Space]) -> tuple[str, int]:
        parts, width = [], 0
        for name, space in spaces.items():
            size = int(np.prod(space.shape))
            parts.append(self.flat(name, space, size))
            width += size
        return self.node("Concat", *parts, axis=1), width

    def flat(self, name: str, space: Space, size: int) -> str:
        real = self.node("Cast", name, to=TensorProto.FLOAT)
        if space.dtype == np.uint8:
            real = self.node("Div", real, self.constant(np.float32(255)))
        return self.node("Reshape", real, self.constant(np.array([-1, size], np.int64)))

    def action(
        self, features: str, width: int, space: Space, rng: np.random.Generator, squash: bool
    ) -> None:
        if isinstance(space, BoxSpace):
            self._gaussian(features, width, space, rng, squash)
        elif isinstance(space, DiscreteSpace):
            logits = self._logits(features, width, [space.n], rng)
            best = self._argmax(logits, keepdims=0)
            self.node("Add", best, self.constant(np.int64(space.start)), output=ACTION)
        elif isinstance(space, MultiDiscreteSpace):
            logits = self._logits(features, width, [int(space.nvec.sum())], rng)
            ends = np.cumsum(space.nvec)
            parts = [
                self._argmax(self._columns(logits, end - n, end), keepdims=1)
                for n, end in zip(space.nvec, ends, strict=True)
            ]
            joined = self.node("Concat", *parts, axis=1)
            self.node("Add", joined, self.constant(space.start), output=ACTION)
        else:
            logits = self._logits(features, width, list(space.shape), rng)
            on = self.node("Greater", logits, self.constant(np.float32(0)))
            self.node("Cast", on, output=ACTION, to=TensorProto.INT8)

    def _gaussian(
        self, features: str, width: int, space: BoxSpace, rng: np.random.Generator, squash: bool
    ) -> None:
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        linear = self.linear(features, width, int(np.prod(space.shape)), rng)
        shape = self.constant(np.array([-1, *space.shape], np.int64))
        mean = self.node("Reshape", linear, shape, output="mean")
        ones = self.node("Exp", self.node("Mul", mean, self.constant(np.float32(0))))
        self.node("Mul", ones, self.constant(np.float32(0.5)), output="std")
        if squash:
            unit = self.node("Add", self.node("Tanh", mean), self.constant(np.float32(1)))
            wide = self.node("Mul", unit, self.constant((high - low) / 2))
            self.node("Add", wide, self.constant(low), output=ACTION)
        else:
            above = self.node("Max", mean, self.constant(low))
            self.node("Min", above, self.constant(high), output=ACTION)

    def _logits(self, features: str, width: int, shape: list[int], rng: np.random.Generator) -> str:
        linear = self.linear(features, width, int(np.prod(shape)), rng)
        return self.node(
            "Reshape", linear, self.constant(np.array([-1, *shape], np.int64)), output="logits"
        )

    def _argmax(self, logits: str, keepdims: int) -> str:
        return self.node("ArgMax", logits, axis=1, keepdims=keepdims)

    def _columns(self, x: str, start: int, end: int) -> str:
        return self.node(
            "Slice",
            x,
            self.constant(np.array([start], np.int64)),
            self.constant(np.array([end], np.int64)),
            self.constant(np.array([1], np.int64)),
        )
