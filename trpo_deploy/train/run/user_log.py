"""The training log for the user's own loggers, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.logger import KVWriter

from trpo_deploy.class_path import class_list, construct
from trpo_deploy.train.run.callbacks.user_callbacks import describe
from trpo_deploy.train.run.optional_log import OptionalLog


def user_logs(logger: Any, note: Callable[[str], None]) -> list[OptionalLog]:
    """Make the loggers of a run.

    Args:
        logger: See :func:`~trpo_deploy.class_path.class_list`.
        note: Called when a logger fails.

    Raises:
        ConfigError: A name is not a ``KVWriter``, or its arguments do not fit.
    """

    def make(name: str, arguments: dict[str, Any]) -> OptionalLog:
        log = construct("logger", name, arguments, KVWriter)
        return OptionalLog(log, lambda error: f"logger {name} failed: {describe(error)}", note)

    return [make(name, arguments) for name, arguments in class_list("logger", logger)]
