"""The graph of a finished policy, between the inputs and outputs that a game engine expects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import compose, helper

from trpo_deploy.errors import ExportError
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.graph.builder import GraphBuilder
from trpo_deploy.export.targets.read_graph import needed_nodes
from trpo_deploy.spec.policy_spec import TensorSpec

PREFIX = "policy/"
"""Before all names of the policy's own graph, so that none is a name of the contract."""
OWN_PREFIX = "/game/"
"""Before the names of tensors between an engine and the policy."""


class Wiring:
    """Nodes before and after a policy's own graph.

    Add inputs and :meth:`feed` all of the policy's, then :meth:`add_policy`, then outputs.
    """

    def __init__(self, file: ExportedFile, engine: str, newest_opset: int) -> None:
        """Start with the policy's graph, which has no inputs and outputs yet.

        Args:
            file: The policy.
            engine: Name of the game engine, for messages.
            newest_opset: The newest opset that it reads.

        Raises:
            ExportError: The file's opset is newer.
        """
        opset = next(each.version for each in file.model.opset_import if not each.domain)
        if opset > newest_opset:
            raise ExportError(
                f"{engine} reads opsets up to {newest_opset} and the file has {opset}; export the "
                "policy again without --opset"
            )
        self.file = file
        self.graph = GraphBuilder(opset)
        self._fed = 0
        self._policy = compose.add_prefix(file.model, PREFIX).graph
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def add_input(self, name: str, *shape: int) -> str:
        """Add a float32 input ``(batch, *shape)``; return its name."""
        self._inputs.append(_value_info(name, np.float32, ["batch", *shape]))
        return name

    def feed(self, tensor: TensorSpec, source: str) -> None:
        """Give an input of the policy the numbers of a float32 tensor, in the same order."""
        # Numbered, since names with a key in them could be the same as others.
        number, self._fed = self._fed, self._fed + 1
        shaped = self.graph.reshape(source, [-1, *tensor.shape], f"{OWN_PREFIX}inputs/{number}")
        self.graph.cast(shaped, tensor.dtype, PREFIX + tensor.name)

    def add_policy(self) -> None:
        """Add the policy's own graph."""
        self.graph.nodes.extend(self._policy.node)
        self.graph.initializers.extend(self._policy.initializer)

    def tensor(self, name: str) -> str:
        """Name of a tensor of the policy's own graph.

        Raises:
            ExportError: There is none.
        """
        if not self.graph.has(PREFIX + name):
            raise ExportError("the file is of an older version; export the policy again")
        return PREFIX + name

    def add_output(self, name: str, *shape: int, dtype: Any = np.float32) -> None:
        """Make a tensor ``(batch, *shape)`` an output."""
        self._outputs.append(_value_info(name, dtype, ["batch", *shape]))

    def add_constant_output(self, name: str, values: Sequence[float], *shape: int) -> None:
        """Add an output of fixed float32 numbers, without a batch axis."""
        constant = self.graph.constant(f"{OWN_PREFIX}{name}", np.reshape(values, shape))
        self.graph.add("Identity", [constant], name)
        self._outputs.append(_value_info(name, np.float32, shape))

    def to_bytes(self) -> bytes:
        """The content of the ONNX file, without nodes that no output needs."""
        source, graph = self.file.model, self.graph
        whole = helper.make_graph(
            graph.nodes, "policy", self._inputs, self._outputs, graph.initializers
        )
        inputs = {each.name for each in self._inputs}
        nodes = needed_nodes(whole, {each.name for each in self._outputs}, inputs)
        read = {name for node in nodes for name in node.input}
        model = helper.make_model(
            helper.make_graph(
                nodes,
                "policy",
                self._inputs,
                self._outputs,
                [each for each in graph.initializers if each.name in read],
            ),
            producer_name=source.producer_name,
            producer_version=source.producer_version,
            ir_version=source.ir_version,
            opset_imports=source.opset_import,
        )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())


def _value_info(name: str, dtype: Any, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape)
    )
