"""Spaces that derive from Gymnasium's, as users write them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces


class Meters(spaces.Box):
    """A Box with an argument, an attribute and a ``sample`` of its own."""

    def __init__(self, reach: float, n: int) -> None:
        super().__init__(-reach, reach, (n,), np.float32)
        self.reach = reach

    def sample(self, mask: Any = None, probability: Any = None) -> Any:
        """Half of the reach at most."""
        return super().sample(mask, probability) / 2


class Gears(spaces.Discrete):
    """A Discrete with a fixed number."""

    def __init__(self) -> None:
        super().__init__(5)
