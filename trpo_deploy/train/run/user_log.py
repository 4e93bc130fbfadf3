"""The training log for the user's own loggers, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.logger import KVWriter

from trpo_deploy.class_path import class_list, construct
from trpo_deploy.train.run.callbacks.user_callbacks import describe


class UserLog(KVWriter):
    """Passes the log to a logger of the user; the run continues without it when it fails.

    Args:
        name: Name of its class, for messages.
        logger: The logger.
        note: Called once, when it fails.
    """

    def __init__(self, name: str, logger: KVWriter, note: Callable[[str], None]) -> None:
        self._name, self._logger, self._note = name, logger, note
        self._failed = False

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        """Write a row."""
        self._unless_failed(self._logger.write, key_values, key_excluded, step)

    def close(self) -> None:
        """Close the logger."""
        self._unless_failed(self._logger.close)

    def _unless_failed(self, method: Callable[..., None], *arguments: Any) -> None:
        if self._failed:
            return
        try:
            method(*arguments)
        except Exception as error:  # a user's code raises anything
            self._failed = True
            self._note(
                f"logger {self._name} failed: {describe(error)}; training continues without it"
            )


def user_logs(logger: Any, note: Callable[[str], None]) -> list[UserLog]:
    """Make the loggers of a run.

    Args:
        logger: See :func:`~trpo_deploy.class_path.class_list`.
        note: Called when a logger fails.

    Raises:
        ConfigError: A name is not a ``KVWriter``, or its arguments do not fit.
    """
    return [
        UserLog(name, construct("logger", name, arguments, KVWriter), note)
        for name, arguments in class_list("logger", logger)
    ]
