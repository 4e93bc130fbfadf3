"""Which local array holds which tensor, so that a policy needs little stack.

Arrays are reused once their tensor has been read for the last time. An element-wise step writes
over its input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from trpo_deploy.export.targets.program import Map, Reshape, Softmax, Step, Tensor, operands

Reads = Callable[[Step], Iterable[Tensor]]


@dataclass
class LocalArray:
    """A local array of ``NAME_act``."""

    name: str
    ctype: str
    size: int


@dataclass
class Memory:
    """The arrays, and the one that holds each computed tensor."""

    arrays: list[LocalArray] = field(default_factory=list)
    places: dict[Tensor, LocalArray] = field(default_factory=dict)


def plan_memory(
    steps: Sequence[Step],
    results: Iterable[Tensor],
    ctype: Callable[[Tensor], str],
    reads: Reads = operands,
) -> Memory:
    """Give each tensor that a step computes an array.

    Args:
        steps: Steps in order.
        results: Tensors that are read after the last step.
        ctype: C type of a tensor.
        reads: The tensors that a step reads.
    """
    memory, free = Memory(), list[LocalArray]()
    roots = _roots(steps)
    last = _last_reads(steps, results, reads, roots)
    for index, step in enumerate(steps):
        if isinstance(step, Reshape):
            if step.input in memory.places:
                memory.places[step.output] = memory.places[step.input]
            continue
        place = _in_place(step, index, last, memory, ctype)
        if place is None:
            place = _take(free, memory, ctype(step.output), step.output.size)
        memory.places[step.output] = place
        for tensor in {*reads(step), step.output}:
            array = memory.places.get(tensor)
            ended = last.get(roots.get(tensor, tensor), index) <= index
            if array is not None and array is not place and ended and array not in free:
                free.append(array)
    return memory


def _roots(steps: Sequence[Step]) -> Mapping[Tensor, Tensor]:
    """For each reshaped tensor, the one whose elements it has."""
    roots: dict[Tensor, Tensor] = {}
    for step in steps:
        if isinstance(step, Reshape):
            roots[step.output] = roots.get(step.input, step.input)
    return roots


def _last_reads(
    steps: Sequence[Step],
    results: Iterable[Tensor],
    reads: Reads,
    roots: Mapping[Tensor, Tensor],
) -> Mapping[Tensor, int]:
    """Index of the last step that reads a tensor, or a reshaped form of it."""
    last: dict[Tensor, int] = {}
    for index, step in enumerate(steps):
        if not isinstance(step, Reshape):
            last |= {roots.get(tensor, tensor): index for tensor in reads(step)}
    return last | {roots.get(tensor, tensor): len(steps) for tensor in results}


def _in_place(
    step: Step,
    index: int,
    last: Mapping[Tensor, int],
    memory: Memory,
    ctype: Callable[[Tensor], str],
) -> LocalArray | None:
    """The array of an input that nothing reads later, if the step may write over it."""
    if not isinstance(step, (Map, Softmax)):
        return None
    for tensor in operands(step):
        place = memory.places.get(tensor)
        if place is None or place.ctype != ctype(step.output):
            continue
        sharing = [each for each in operands(step) if memory.places.get(each) is place]
        same = all(each.size == step.output.size for each in sharing)
        ended = all(last.get(each, 0) <= index for each, at in memory.places.items() if at is place)
        if same and ended:
            return place
    return None


def _take(free: list[LocalArray], memory: Memory, ctype: str, size: int) -> LocalArray:
    """The free array that fits best, or a new one."""
    fitting = [each for each in free if each.ctype == ctype]
    if not fitting:
        array = LocalArray(f"b{len(memory.arrays)}", ctype, size)
        memory.arrays.append(array)
        return array
    large = [each for each in fitting if each.size >= size]
    if large:
        array = min(large, key=lambda each: each.size)
    else:
        array = max(fitting, key=lambda each: each.size)
        array.size = size
    free.remove(array)
    return array
