"""One entry of a certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trpo_deploy.spec.spaces import Array


@dataclass(frozen=True)
class Check:
    """The result of one comparison with the trained policy."""

    name: str
    passed: bool | None
    """``None`` if the comparison could not be decided or made; :attr:`note` says why."""
    how: str
    """What was compared, and where the tolerance comes from."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    """The result in words, where the numbers alone do not explain it."""

    @property
    def result(self) -> str:
        """``ok``, ``FAIL`` or ``open``."""
        return {True: "ok", False: "FAIL", None: "open"}[self.passed]

    @property
    def failed(self) -> bool:
        """Whether the file differs from the policy; false for an undecided check."""
        return self.passed is False


def json_number(value: float | np.floating | Array) -> float | str:
    """A number for JSON; NaN and infinities become text."""
    number = float(value)
    return number if np.isfinite(number) else str(number)
