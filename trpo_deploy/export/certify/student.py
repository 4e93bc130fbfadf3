"""Quantiles of Student's t distribution."""

from __future__ import annotations

import math
from functools import cache


@cache
def student_quantile(probability: float, df: int) -> float:
    """The quantile of Student's t distribution, by bisection on its exact distribution function.

    Args:
        probability: Probability below the quantile, at least 0.5 and below 1.
        df: Degrees of freedom, at least 1.
    """
    low, high = 0.0, 1.0
    while _below(high, df) < probability:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, df) < probability else (low, middle)
    return high


def _below(t: float, df: int) -> float:
    """Probability of a value below ``t >= 0``.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = math.atan2(t, math.sqrt(df))
    odd, cosine, total, term = df % 2, math.cos(angle), 0.0, 1.0
    for k in range(df // 2):
        total += term
        term *= (2 * k + 1 + odd) / (2 * k + 2 + odd) * cosine**2
    series = math.sin(angle) * total
    inside = 2 / math.pi * (angle + cosine * series) if odd else series
    return 0.5 + inside / 2
