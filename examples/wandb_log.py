"""The training log in Weights & Biases.

Run it with::

    pip install wandb
    trpo-deploy train CartPole-v1 --logger 'examples.wandb_log:WandbLog: {project: trpo}'
"""

from __future__ import annotations

from typing import Any

import wandb  # type: ignore[import-not-found, unused-ignore]
from stable_baselines3.common.logger import KVWriter


class WandbLog(KVWriter):
    """Writes each row of the log to a run of Weights & Biases.

    Args:
        arguments: Arguments of ``wandb.init``, such as ``project`` and ``mode: offline``.
    """

    def __init__(self, **arguments: Any) -> None:
        self.run = wandb.init(**arguments)

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],  # noqa: ARG002 - the signature of SB3
        step: int = 0,
    ) -> None:
        """Write a row."""
        self.run.log(dict(key_values), step=step)

    def close(self) -> None:
        """End the run."""
        self.run.finish()
