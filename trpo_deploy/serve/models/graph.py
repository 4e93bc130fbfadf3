"""Refuse graphs that no policy needs and that a service must not run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from trpo_deploy.errors import ServeError

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def check_graph(content: bytes, path: Path) -> None:
    """Check that a file is self-contained and ends: no loops, no code of others, no other files.

    Args:
        content: The ONNX file.
        path: Where it is, for messages.

    Raises:
        ServeError: The graph has control flow, functions of its own, operators of a domain that is
            not ONNX's, or external data; or the content is not an ONNX file.
    """
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's exceptions differ between its implementations
        raise ServeError(f"{path} is not an ONNX file that can be run ({error})") from error
    domains = {item.domain for item in model.opset_import} | {n.domain for n in model.graph.node}
    if model.functions or domains - _DOMAINS:
        other = sorted(domains - _DOMAINS) or [model.functions[0].name]
        raise ServeError(
            f"{path} uses operators that are not ONNX's own ({other[0]!r}); export it again "
            "with standard operators"
        )
    if len(model.training_info):
        raise ServeError(f"{path} has training graphs; export it again without them")
    for node in model.graph.node:
        nested = any(a.HasField("g") or len(a.graphs) for a in node.attribute)
        if nested or node.op_type in _CONTROL_FLOW:
            raise ServeError(
                f"{path} has control flow ({node.op_type}), which may never end; export it "
                "again without loops and branches"
            )
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or len(tensor.external_data):
            raise ServeError(
                f"{path} keeps {tensor.name!r} in another file; export it again as one file"
            )


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All constants of a graph without nested graphs."""
    yield from graph.initializer
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    for attribute in attributes:
        yield from (attribute.t, *attribute.tensors)
    sparse = [tensor for a in attributes for tensor in (a.sparse_tensor, *a.sparse_tensors)]
    for each in (*graph.sparse_initializer, *sparse):
        yield from (each.values, each.indices)
