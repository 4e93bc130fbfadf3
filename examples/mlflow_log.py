"""The training log in MLflow.

Run it with::

    pip install mlflow
    trpo-deploy train CartPole-v1 --logger 'examples.mlflow_log:MlflowLog: {uri: "sqlite:///mlflow.db"}'
"""

from __future__ import annotations

from typing import Any

import mlflow  # type: ignore[import-not-found, unused-ignore]
from stable_baselines3.common.logger import KVWriter


class MlflowLog(KVWriter):
    """Writes the numbers of each row of the log to a run of MLflow.

    Args:
        uri: Tracking store: the address of a server, ``sqlite:///FILE``, or ``file:FOLDER`` (which
            needs the variable ``MLFLOW_ALLOW_FILE_STORE=true``).
        experiment: Name of the experiment.
    """

    def __init__(self, uri: str, experiment: str = "trpo") -> None:
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment(experiment)
        self.run = mlflow.start_run()

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],  # noqa: ARG002 - the signature of SB3
        step: int = 0,
    ) -> None:
        """Write a row."""
        numbers = {name: float(x) for name, x in key_values.items() if not isinstance(x, str)}
        mlflow.log_metrics(numbers, step=step)

    def close(self) -> None:
        """End the run."""
        mlflow.end_run()
