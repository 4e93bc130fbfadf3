"""Learning-rate schedules by name."""

from __future__ import annotations

import math
import re
from typing import Any

from stable_baselines3.common.utils import LinearSchedule

from trpo_deploy.errors import ConfigError

_LINEAR = re.compile(r"lin_(\S+)")


def linear_schedule(name: str, value: Any) -> float | LinearSchedule:
    """Parse a learning rate: a number, or ``lin_0.001`` for a linear schedule from there to zero.

    The schedule is SB3's own class, so a zip that contains it loads with SB3 alone.

    Args:
        name: Name of the setting, for messages.
        value: The value.

    Raises:
        ConfigError: The value is neither.
    """
    linear = _LINEAR.fullmatch(value) if isinstance(value, str) else None
    try:
        if isinstance(value, bool) or (isinstance(value, str) and linear is None):
            raise ValueError
        start = float(value if linear is None else linear[1])
        if not (math.isfinite(start) and start >= 0):
            raise ValueError
    except (TypeError, ValueError):
        raise ConfigError(
            f"{name}={value!r}: expected a finite number from 0, or lin_0.001 for a linear "
            "schedule to zero"
        ) from None
    return start if linear is None else LinearSchedule(start, 0.0, 1.0)
