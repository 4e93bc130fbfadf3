"""Layer norms and RMS norms as nodes of a graph.

They are written with operators of opset 7, in an order that no engine makes inaccurate; see
``docs/decisions/layer-norms.md``.
"""

from __future__ import annotations

import numpy as np

from trpo_deploy.export.graph.builder import GraphBuilder
from trpo_deploy.export.policy.layers import Standardize


def add_standardize(
    graph: GraphBuilder, layer: Standardize, name: str, prefix: str, output: str
) -> str:
    """Add the layer; return the output's name.

    The mean of a row is its product with ``1 / width``. Unlike the operator ReduceMean, it does not
    overflow for numbers near the largest float32.
    """
    column = _column_of_means(graph, layer.width)
    if layer.subtracts_mean:
        # The first mean is rounded in proportion to the numbers themselves. What is left has a mean
        # of the size of that error, which the second subtraction removes. A row of equal numbers
        # becomes zeros.
        for step in ("roughly_centered", "centered"):
            mean = graph.add("MatMul", [name, column], f"{prefix}/{step}/mean")
            name = graph.add("Sub", [name, mean], f"{prefix}/{step}")
    # Not Pow: onnxruntime would replace the nodes by one that older versions compute less exactly.
    square = graph.add("Mul", [name, name], f"{prefix}/square")
    epsilon = graph.constant(f"{prefix}/epsilon", [layer.epsilon])
    variance = graph.add("Gemm", [square, column, epsilon], f"{prefix}/variance")
    return graph.add("Div", [name, graph.add("Sqrt", [variance], f"{prefix}/std")], output)


def _column_of_means(graph: GraphBuilder, width: int) -> str:
    """A constant whose product with a row is the row's mean; one for all layers of a width."""
    name = f"/mean_of_{width}"
    return name if graph.has(name) else graph.constant(name, np.full((width, 1), 1.0 / width))
