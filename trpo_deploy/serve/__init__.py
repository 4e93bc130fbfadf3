"""Serve exported policies over HTTP and WebSocket as one BentoML service."""

from trpo_deploy.serve.bundle import bundle
from trpo_deploy.serve.supervisor import serve

__all__ = ["bundle", "serve"]
