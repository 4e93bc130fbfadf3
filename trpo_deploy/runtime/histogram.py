"""A histogram of durations in constant memory."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

_BITS = 5
"""Each power of two has ``2**_BITS`` buckets, each at most 1/32 of its start wide."""
_LARGEST_BITS = 44  # of a duration in nanoseconds: 4.9 hours
_SIZE = (_LARGEST_BITS - _BITS + 1) << _BITS


@dataclass(frozen=True)
class Distribution:
    """Quantiles of durations, in seconds; 0 without any."""

    count: int
    p50: float
    p99: float
    p99_9: float
    longest: float
    """Exact; the quantiles are within 1.6 %."""


class Histogram:
    """Durations in buckets whose width grows with the duration. 10 kB, whatever is counted.

    A quantile is the middle of its bucket, so its relative error is at most 1/64 = 1.6 %. Durations
    below 64 ns are exact, and those above 4.9 hours count as 4.9 hours.
    """

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _SIZE))
        self._longest = 0

    def add(self, nanoseconds: int) -> None:
        """Count a duration of at least 0."""
        if nanoseconds > self._longest:
            self._longest = nanoseconds
        # The bucket of a duration of more than _BITS + 1 bits has its leading bits; see _middle.
        shift = nanoseconds.bit_length() - _BITS - 1
        if shift <= 0:
            self._counts[nanoseconds] += 1
        elif shift < _LARGEST_BITS - _BITS:
            self._counts[(shift << _BITS) + (nanoseconds >> shift)] += 1
        else:
            self._counts[-1] += 1

    def distribution(self) -> Distribution:
        """The quantiles so far."""
        count = sum(self._counts)
        p50, p99, p99_9 = (self._quantile(count, parts) for parts in (500, 990, 999))
        return Distribution(count, p50, p99, p99_9, self._longest / 1e9)

    def _quantile(self, count: int, parts: int) -> float:
        """The smallest duration that at least ``parts`` of 1000 do not exceed."""
        rank, seen = -(-count * parts // 1000), 0
        for bucket, number in enumerate(self._counts):
            seen += number
            if seen and seen >= rank:
                return min(_middle(bucket), self._longest) / 1e9
        return 0.0


def _middle(bucket: int) -> float:
    """Middle of a bucket in nanoseconds."""
    shift = (bucket >> _BITS) - 1
    if shift <= 0:
        return bucket
    return (bucket - (shift << _BITS) + 0.5) * (1 << shift)
