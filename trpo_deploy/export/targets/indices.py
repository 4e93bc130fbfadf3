"""Indices into arrays that lie row after row, for targets that write loops."""

from __future__ import annotations

import numpy as np

from trpo_deploy.errors import ExportError


def around(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """Number of elements before, along and after an axis."""
    before, after = shape[:axis], shape[axis + 1 :]
    return int(np.prod(before)), shape[axis] if shape else 1, int(np.prod(after))


def broadcast_index(shape: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, int]:
    """Where an operand's number for an element of a broadcast shape lies.

    Returns:
        ``step, count``: element ``i`` reads the operand's number ``i // step % count``.

    Raises:
        ExportError: Its axes that are not broadcast are not neighbours.
    """
    padded = (1,) * (len(target) - len(shape)) + shape
    own = [axis for axis, size in enumerate(padded) if size != 1]
    if not own:
        return 1, 1
    first, last = own[0], own[-1]
    if padded[first : last + 1] != target[first : last + 1]:
        raise ExportError(
            f"this target cannot hold the policy: it broadcasts the shape {shape} to {target}"
        )
    return int(np.prod(target[last + 1 :])), int(np.prod(padded))
