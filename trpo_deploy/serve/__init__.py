"""Serve exported policies over HTTP and WebSocket as one BentoML service."""

from trpo_deploy.serve.process.bundle import bundle
from trpo_deploy.serve.process.supervisor import serve

__all__ = ["bundle", "serve"]
