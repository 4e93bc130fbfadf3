"""``/livez`` and ``/readyz``."""

from __future__ import annotations

from threading import Event

import orjson

from trpo_deploy.serve.http.background import background
from trpo_deploy.serve.messages import Reply
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.spec.spaces import Json

LIVE, READY = "/livez", "/readyz"
"""Paths of the endpoints."""
draining = Event()
"""Set in a worker that is about to stop: ``/readyz`` then answers 503."""


def live() -> Reply:
    """The process is running."""
    return Reply(b'{"live":true}')


def ready(registry: Registry, *, with_models: bool) -> Reply:
    """200 if at least one model is served and the worker works and stays, otherwise 503.

    Args:
        registry: The served models.
        with_models: Add the status of each model. Their names are not for everybody.
    """
    good = is_ready(registry)
    value: Json = {
        "ready": good,
        "draining": draining.is_set(),
        "overdue_tasks": background.overdue(),
    }
    if with_models:
        value["models"] = {name: entry.status for name, entry in registry.entries.items()}
    return Reply(orjson.dumps(value), status=200 if good else 503)


def is_ready(registry: Registry) -> bool:
    """Whether at least one model is served, and the worker works and stays."""
    has_model = any(entry.versions for entry in registry.entries.values())
    return has_model and not background.overdue() and not draining.is_set()
