"""Rollout samples: an array, or a dict of arrays where observations have keys."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from stable_baselines3.common.type_aliases import RolloutBufferSamples


def map_arrays(function: Callable[[Any], Any], observations: Any) -> Any:
    """Apply a function to an array, or to each array of a dict."""
    if isinstance(observations, dict):
        return {key: function(part) for key, part in observations.items()}
    return function(observations)


def every_kth(observations: Any, k: int) -> Any:
    """Every k-th row of an array, or of each array of a dict."""
    return map_arrays(itemgetter(slice(None, None, k)), observations)


def every_kth_sample(rollout: RolloutBufferSamples, k: int) -> RolloutBufferSamples:
    """Every k-th sample of a rollout. Zero keeps all samples, as in ``sb3_contrib``."""
    if k <= 1:
        return rollout
    return RolloutBufferSamples(*(every_kth(column, k) for column in rollout))
