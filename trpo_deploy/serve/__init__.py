"""Serve exported policies over HTTP, WebSocket and gRPC as one BentoML service.

A request passes ``http`` or ``grpc`` (limits, key, body), ``protocols`` (parse, validate, batch)
and the policy of ``models``. ``process`` starts and supervises the workers. ``bundles`` packs
models with the service for a container or a cluster.

The names below are resolved when they are first used, so that the command line can list the
targets of ``bundles`` on any system.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from trpo_deploy.errors import ServeError

if TYPE_CHECKING:
    from trpo_deploy.serve.bundles.bundle import bundle as bundle
    from trpo_deploy.serve.bundles.bundle import pack as pack
    from trpo_deploy.serve.process.launch import serve as serve

__all__ = ["bundle", "serve"]

# name -> the module that defines it
_PUBLIC = {
    "bundle": "trpo_deploy.serve.bundles.bundle",
    "pack": "trpo_deploy.serve.bundles.bundle",
    "serve": "trpo_deploy.serve.process.launch",
}


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if sys.platform != "linux":
        raise ServeError(
            f"the service and its bundles need Linux, and this is {sys.platform}; use a container, "
            "or WSL on Windows. OnnxPolicy runs the policy here without a service"
        )
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
