"""``/livez`` and ``/readyz``."""

from __future__ import annotations

from threading import Event

import orjson

from trpo_deploy.serve.http.background import background
from trpo_deploy.serve.messages import Reply
from trpo_deploy.serve.models.registry import Registry

draining = Event()
"""Set in a worker that is about to stop: ``/readyz`` then answers 503."""


def live() -> Reply:
    """The process is running."""
    return Reply(b'{"live":true}')


def ready(registry: Registry) -> Reply:
    """200 if at least one model is served and the worker works and stays, otherwise 503."""
    entries = registry.entries
    overdue = background.overdue()
    has_model = any(entry.versions for entry in entries.values())
    is_ready = has_model and not overdue and not draining.is_set()
    # The status only: /models has the reasons and needs a key.
    models = {name: entry.status for name, entry in entries.items()}
    body = orjson.dumps(
        {
            "ready": is_ready,
            "draining": draining.is_set(),
            "overdue_tasks": overdue,
            "models": models,
        }
    )
    return Reply(body, status=200 if is_ready else 503)
