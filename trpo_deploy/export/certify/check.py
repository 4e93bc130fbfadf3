"""One entry of a certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trpo_deploy.spec.spaces import Array, Json


@dataclass(frozen=True)
class Check:
    """The result of one comparison with the trained policy."""

    name: str
    passed: bool
    how: str
    """What was compared, and where the tolerance comes from."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    warning: str = ""
    """What the user should know although the check passed."""
    worst_case: Json | None = None
    """The number with the largest error, and its observation."""


def json_number(value: float | np.floating | Array) -> float | str:
    """A number for JSON; NaN and infinities become text."""
    number = float(value)
    return number if np.isfinite(number) else str(number)
