"""The user's own callbacks, by name."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from trpo_deploy.class_path import class_list, construct
from trpo_deploy.errors import TrainingError, TrpoDeployError


class UserCallback(BaseCallback):
    """Runs a callback of the user; an exception in it is one clear line.

    Args:
        name: Name of its class, for messages.
        callback: The callback.
    """

    def __init__(self, name: str, callback: BaseCallback) -> None:
        super().__init__()
        self._name = name
        self._callback = callback

    def _init_callback(self) -> None:
        self._call(self._callback.init_callback, self.model)

    def update_child_locals(self, locals_: dict[str, Any]) -> None:
        """Pass the variables of the rollout on."""
        self._callback.update_locals(locals_)

    def _on_training_start(self) -> None:
        self._call(self._callback.on_training_start, self.locals, self.globals)

    def _on_rollout_start(self) -> None:
        self._call(self._callback.on_rollout_start)

    def _on_step(self) -> bool:
        return bool(self._call(self._callback.on_step))

    def _on_rollout_end(self) -> None:
        self._call(self._callback.on_rollout_end)

    def _on_training_end(self) -> None:
        self._call(self._callback.on_training_end)

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return method(*arguments)
        except TrpoDeployError:
            raise
        except Exception as error:  # a user's code raises anything
            raise TrainingError(
                f"callback {self._name} failed after {self.num_timesteps} steps: "
                f"{describe(error)}; correct it and resume the run with --resume"
            ) from error


def user_callbacks(callback: Any) -> list[UserCallback]:
    """Make the callbacks of a run.

    Args:
        callback: See :func:`~trpo_deploy.class_path.class_list`.

    Raises:
        ConfigError: A name is not a ``BaseCallback``, or its arguments do not fit.
    """
    return [
        UserCallback(name, construct("callback", name, arguments, BaseCallback))
        for name, arguments in class_list("callback", callback)
    ]


def describe(error: Exception) -> str:
    """An exception of a user's code in one line, with the place that raised it."""
    reason = " ".join(str(error).split())
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}, line {place.lineno}"
    return f"{type(error).__name__}{reason and ': '}{reason} ({where})"
