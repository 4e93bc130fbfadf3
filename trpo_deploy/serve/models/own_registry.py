"""Models that a process publishes for itself, as under ``bentoml serve``."""

from __future__ import annotations

from contextlib import ExitStack
from weakref import finalize

from trpo_deploy.serve.models.publisher import Publisher
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.models.store import new_store
from trpo_deploy.serve.settings import Settings


def own_registry(settings: Settings) -> tuple[Registry, Publisher]:
    """Publish the models of the settings once, and open them.

    Returns:
        The models, and their publisher, which can be started. The store is removed with it.

    Raises:
        TrialError: Models cannot be tried.
    """
    resources = ExitStack()
    publisher = Publisher(settings, resources.enter_context(new_store()))
    resources.callback(publisher.trial.close)
    finalize(publisher, resources.close)
    publisher.look()
    return Registry(publisher.store, publisher.load), publisher
