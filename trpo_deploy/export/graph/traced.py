"""Traced features extractors as part of a graph."""

from __future__ import annotations

import onnx
from onnx import compose

from trpo_deploy.errors import ExportError
from trpo_deploy.export.graph.builder import GraphBuilder
from trpo_deploy.export.policy.features import TracedFeatures


def add_traced_features(
    graph: GraphBuilder, features: TracedFeatures, observations: list[str], prefix: str
) -> str:
    """Copy the nodes of a traced extractor, without the paths that torch writes next to them.

    Args:
        graph: Graph to extend.
        features: The extractor.
        observations: Tensors with the preprocessed observations, in the extractor's order.
        prefix: Prefix of the new names.

    Returns:
        The tensor with the features, ``(batch, features)``.

    Raises:
        ExportError: torch cannot export the extractor with the graph's opset, or uses an operator
            outside the ONNX standard.
    """
    model = onnx.load_model_from_string(features.trace(graph.opset))
    traced = compose.add_prefix(model, f"{prefix}/").graph
    names = dict(zip((each.name for each in traced.input), observations, strict=True))
    for node in traced.node:
        node.ClearField("doc_string")  # source lines of the exporting machine
        node.ClearField("metadata_props")
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
        if node.domain not in ("", "ai.onnx"):
            raise ExportError(
                f"the features extractor {features.extractor} needs the operator "
                f"{node.domain}.{node.op_type}, which is not part of the ONNX standard"
            )
    graph.nodes.extend(traced.node)
    graph.initializers.extend(traced.initializer)
    return str(traced.output[0].name)
