"""``/livez`` and ``/readyz``."""

from __future__ import annotations

from threading import Event

import orjson

from trpo_deploy.serve.messages import Reply
from trpo_deploy.serve.models.registry import Registry

draining = Event()
"""Set in a worker that is about to stop: ``/readyz`` then answers 503."""


def live() -> Reply:
    """The process is running."""
    return Reply(b'{"live":true}')


def ready(registry: Registry) -> Reply:
    """200 if at least one model is served and the worker is not draining, otherwise 503."""
    entries = registry.entries
    is_ready = not draining.is_set() and any(entry.versions for entry in entries.values())
    # The status only: /models has the reasons and needs a key.
    models = {name: entry.status for name, entry in entries.items()}
    body = orjson.dumps({"ready": is_ready, "draining": draining.is_set(), "models": models})
    return Reply(body, status=200 if is_ready else 503)
