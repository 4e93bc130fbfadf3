"""Layers of a network as nodes of a graph."""

from __future__ import annotations

from collections.abc import Iterable

from trpo_deploy.export.graph.activations import ACTIVATION_NODES
from trpo_deploy.export.graph.builder import GraphBuilder
from trpo_deploy.export.graph.normalization import add_standardize
from trpo_deploy.export.policy.layers import (
    Activation,
    Affine,
    Conv,
    Flatten,
    Layer,
    Linear,
    Standardize,
)


def add_layers(graph: GraphBuilder, layers: Iterable[Layer], name: str, prefix: str) -> str:
    """Add layers one after another; return the tensor with the last one's output."""
    for index, layer in enumerate(layers):
        name = add_layer(graph, layer, name, f"{prefix}/{index}")
    return name


def add_layer(
    graph: GraphBuilder, layer: Layer, name: str, prefix: str, output: str | None = None
) -> str:
    """Add one layer; its output is ``PREFIX/out`` unless ``output`` names it."""
    output = output or f"{prefix}/out"
    if isinstance(layer, Flatten):
        return graph.add("Flatten", [name], output, axis=1)
    if isinstance(layer, Activation):
        return ACTIVATION_NODES[layer.name](graph, name, layer.parameters, output)
    if isinstance(layer, Standardize):
        return add_standardize(graph, layer, name, prefix, output)
    weight = graph.constant(f"{prefix}/weight", layer.weight)
    bias = graph.constant(f"{prefix}/bias", layer.bias)
    if isinstance(layer, Linear):
        return graph.add("Gemm", [name, weight, bias], output, transB=1)
    if isinstance(layer, Affine):
        scaled = graph.add("Mul", [name, weight], f"{prefix}/scaled")
        return graph.add("Add", [scaled, bias], output)
    assert isinstance(layer, Conv)
    return graph.add(
        "Conv",
        [name, weight, bias],
        output,
        kernel_shape=layer.weight.shape[2:],  # optional in ONNX, but OpenCV needs it
        strides=layer.stride,
        pads=(*layer.padding, *layer.padding),
        dilations=layer.dilation,
        group=layer.groups,
    )
