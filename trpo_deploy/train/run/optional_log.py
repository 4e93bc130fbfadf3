"""A training log without which the run can continue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.logger import KVWriter


class OptionalLog(KVWriter):
    """Passes the log to another one; the run continues without it when it fails.

    Args:
        log: The other one.
        explain: What failed, in a clause, from its exception.
        note: Called once, when it fails.
    """

    def __init__(
        self, log: KVWriter, explain: Callable[[Exception], str], note: Callable[[str], None]
    ) -> None:
        self._log, self._explain, self._note = log, explain, note
        self._failed = False

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        """Write a row."""
        self._unless_failed(self._log.write, key_values, key_excluded, step)

    def close(self) -> None:
        """Close the log."""
        self._unless_failed(self._log.close)

    def _unless_failed(self, method: Callable[..., None], *arguments: Any) -> None:
        if self._failed:
            return
        try:
            method(*arguments)
        except Exception as error:  # a user's code raises anything
            self._failed = True
            self._note(f"{self._explain(error)}; training continues without it")
