"""State of another module, which environments of :mod:`test_outside_state` use."""

from __future__ import annotations

import itertools

import numpy as np

GENERATOR = np.random.default_rng(5)
STREAM = itertools.cycle([0.1, 0.2, 0.3])
COUNTS = {"steps": 0}


def drawn() -> float:
    """Draws from a generator of this module."""
    return float(GENERATOR.normal())


class Counter:
    """Counts in a class."""

    total = 0

    @classmethod
    def next(cls) -> float:
        """The next count."""
        cls.total += 1
        return 0.1 * cls.total
