"""Serve exported policies over HTTP, WebSocket and gRPC as one BentoML service.

A request passes ``http`` or ``grpc`` (limits, key, body), ``protocols`` (parse, validate, batch)
and the policy of ``models``. ``process`` starts and supervises the workers.
"""

import sys

from trpo_deploy.errors import ServeError

if sys.platform != "linux":
    raise ServeError(
        f"the service and its bundles need Linux, and this is {sys.platform}; use a container, or "
        "WSL on Windows. OnnxPolicy runs the policy here without a service"
    )

from trpo_deploy.serve.process.bundle import bundle
from trpo_deploy.serve.process.launch import serve

__all__ = ["bundle", "serve"]
