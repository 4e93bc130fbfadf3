"""The steps from raw observations to the features extractor, as nodes of a graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from trpo_deploy.export.graph.builder import GraphBuilder
from trpo_deploy.export.policy.categories import category_counts, first_categories
from trpo_deploy.export.policy.observations import (
    ChannelsFirst,
    FrameStack,
    Normalizer,
    ObservationInput,
    OneHot,
    Rescale,
    Reshape,
    ScaleImage,
    ToFloat,
)


def add_observation(graph: GraphBuilder, each: ObservationInput, sources: Mapping[str, str]) -> str:
    """Add the steps from a raw observation to the features extractor's float32 input.

    Args:
        graph: Graph to extend.
        each: The observation.
        sources: Key of an input -> the tensor that holds it.

    Returns:
        The tensor with the preprocessed observation.
    """
    name, prefix = sources[each.name], f"/obs/{each.name}"
    dtype: npt.DTypeLike = each.space.dtype
    for index, step in enumerate(each.steps):
        if isinstance(step, OneHot):
            return _one_hot(graph, name, step, prefix)
        if isinstance(step, Normalizer):
            own = prefix if step is each.normalizer else f"{prefix}/{index}"
            name, dtype = _normalize(graph, name, step, dtype, own), np.float32
        elif isinstance(step, Rescale):
            name, dtype = _rescale(graph, name, step, dtype, f"{prefix}/{index}"), np.float32
        elif isinstance(step, Reshape):
            name = graph.reshape(name, [-1, *step.shape], f"{prefix}/{index}/reshaped")
        elif isinstance(step, ToFloat):
            if np.dtype(dtype) != np.float32:
                name = graph.cast(name, np.float32, f"{prefix}/{index}/float")
            dtype = np.float32
        elif isinstance(step, FrameStack):
            name = _stack(graph, name, step, sources[step.state.input.name], prefix)
        elif isinstance(step, ChannelsFirst):
            name = graph.add("Transpose", [name], f"{prefix}/channels_first", perm=[0, 3, 1, 2])
        elif isinstance(step, ScaleImage):
            name = graph.cast(name, np.float32, f"{prefix}/float")
            name = graph.add(
                "Div", [name, graph.constant(f"{prefix}/255", 255.0)], f"{prefix}/scaled"
            )
            dtype = np.float32
    return name if dtype == np.float32 else graph.cast(name, np.float32, f"{prefix}/float32")


def _normalize(
    graph: GraphBuilder, name: str, step: Normalizer, dtype: npt.DTypeLike, prefix: str
) -> str:
    # Not folded into scale and shift or into the first layer: folding drops the clip and makes the
    # rounding error up to 1000 times larger.
    precision = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    if np.dtype(dtype) != precision:
        name = graph.cast(name, precision, f"{prefix}/real")
    mean = graph.constant(f"{prefix}/mean", step.mean, precision)
    name = graph.add("Sub", [name, mean], f"{prefix}/centered")
    if precision == np.float32:
        # Near the mean the difference is exact, so what the constant lost is still in reach.
        lost = step.mean - step.mean.astype(np.float32)
        low_part = graph.constant(f"{mean}_low", lost)
        name = graph.add("Sub", [name, low_part], f"{prefix}/centered_exactly")
    std = graph.constant(f"{prefix}/std", step.std, precision)
    low = graph.constant(f"{prefix}/low", -step.clip, precision)
    high = graph.constant(f"{prefix}/high", step.clip, precision)
    name = graph.add("Div", [name, std], f"{prefix}/scaled_by_std")
    name = graph.add("Clip", [name, low, high], f"{prefix}/normalized")
    if precision == np.float32:
        return name
    return graph.cast(name, np.float32, f"{prefix}/normalized_float32")


def _rescale(
    graph: GraphBuilder, name: str, step: Rescale, dtype: npt.DTypeLike, prefix: str
) -> str:
    factor = graph.constant(f"{prefix}/factor", step.factor, dtype)
    offset = graph.constant(f"{prefix}/offset", step.offset, dtype)
    name = graph.add("Mul", [name, factor], f"{prefix}/scaled")
    name = graph.add("Add", [name, offset], f"{prefix}/rescaled")
    if np.dtype(dtype) == np.float32:
        return name
    return graph.cast(name, np.float32, f"{prefix}/rescaled_float32")


def _stack(graph: GraphBuilder, name: str, step: FrameStack, state: str, prefix: str) -> str:
    frames = graph.add("Concat", [state, name], f"{prefix}/frames", axis=step.axis)
    axis = step.axis if step.axis > 0 else len(step.state.input.shape)
    size = step.state.input.shape[axis - 1]
    graph.slice(frames, axis, -size, np.iinfo(np.int64).max, step.state.output)
    return frames


def _one_hot(graph: GraphBuilder, name: str, step: OneHot, prefix: str) -> str:
    """Compare with a row of all values, since some engines lack the operator OneHot."""
    sizes, starts = category_counts(step.space), first_categories(step.space)
    row = np.concatenate(
        [start + np.arange(size) for start, size in zip(starts, sizes, strict=True)]
    )
    values = graph.constant(f"{prefix}/values", row, np.int64)
    name = graph.reshape(name, [-1, len(sizes)], f"{prefix}/numbers")
    if len(sizes) > 1:
        columns = np.repeat(np.arange(len(sizes)), sizes)
        index = graph.constant(f"{prefix}/columns", columns, np.int64)
        name = graph.add("Gather", [name, index], f"{prefix}/repeated", axis=1)
    equal = graph.add("Equal", [name, values], f"{prefix}/is_value")
    return graph.cast(equal, np.float32, f"{prefix}/one_hot")
