"""Join element-wise steps, so that one loop computes a chain of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from trpo_deploy.export.targets.program import PREVIOUS, Map, Step, Tensor, operands


def fuse(steps: Iterable[Step], results: Iterable[Tensor]) -> tuple[Step, ...]:
    """Join each Map with the one that alone reads its output, if both have the same shape.

    Args:
        steps: Steps in order; each Map has one operation.
        results: Tensors that the caller gets, which stay.
    """
    steps = list(steps)
    readers = Counter(tensor for step in steps for tensor in set(operands(step)))
    kept = set(results)
    fused: dict[Tensor, Step] = {}
    for step in steps:
        if isinstance(step, Map):
            for tensor in dict.fromkeys(operands(step)):
                before = fused.get(tensor)
                same_shape = tensor.shape == step.output.shape
                alone = readers[tensor] == 1 and tensor not in kept
                if isinstance(before, Map) and same_shape and alone:
                    del fused[tensor]
                    step = _joined(before, step)
                    break
        fused[step.output] = step
    return tuple(fused.values())


def _joined(first: Map, second: Map) -> Map:
    (operation,) = second.operations
    reads = tuple(PREVIOUS if each is first.output else each for each in operation.operands)
    return Map(second.output, (*first.operations, replace(operation, operands=reads)))
