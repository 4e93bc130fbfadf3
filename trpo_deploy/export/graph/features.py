"""Features extractors as nodes of a graph."""

from __future__ import annotations

from collections.abc import Mapping

from trpo_deploy.export.graph.builder import GraphBuilder
from trpo_deploy.export.graph.layers import add_layers
from trpo_deploy.export.graph.traced import add_traced_features
from trpo_deploy.export.policy.features import Features, TracedFeatures


def add_features(
    graph: GraphBuilder, features: Features, observations: Mapping[str, str], prefix: str
) -> str:
    """Add a features extractor.

    Args:
        graph: Graph to extend.
        features: The extractor.
        observations: Name of an observation -> the tensor with the preprocessed observation.
        prefix: Prefix of the new names.

    Returns:
        The tensor with the features, ``(batch, features)``.
    """
    if isinstance(features, TracedFeatures):
        inputs = [observations[name] for name in features.inputs]
        return add_traced_features(graph, features, inputs, prefix)
    parts = [
        add_layers(graph, each.layers, observations[each.input], f"{prefix}/{each.input}")
        for each in features
    ]
    return graph.concat(parts, 1, f"{prefix}/features")
