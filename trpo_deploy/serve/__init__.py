"""Serve exported policies over HTTP and WebSocket as one BentoML service.

A request passes ``http`` (limits, key, body), ``protocols`` (parse, validate, batch) and the
policy of ``models``. ``process`` starts and supervises the workers.
"""

from trpo_deploy.serve.process.bundle import bundle
from trpo_deploy.serve.process.launch import serve

__all__ = ["bundle", "serve"]
