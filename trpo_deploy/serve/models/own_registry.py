"""Models that a process publishes for itself, as under ``bentoml serve``."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from weakref import finalize

from trpo_deploy.serve.models.publisher import Publisher
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.models.trial import Trial
from trpo_deploy.serve.settings import Settings


def own_registry(settings: Settings) -> tuple[Registry, Publisher]:
    """Publish the models of the settings once, and open them.

    Returns:
        The models, and their publisher, which can be started. The store is removed with it.

    Raises:
        TrialError: Models cannot be tried.
    """
    store = Path(tempfile.mkdtemp(prefix="trpo-deploy-models-"))
    publisher = Publisher(settings, store)
    finalize(publisher, _remove, publisher.trial, store)
    publisher.look()
    return Registry(store, publisher.load), publisher


def _remove(trial: Trial, store: Path) -> None:
    trial.close()
    shutil.rmtree(store, ignore_errors=True)
