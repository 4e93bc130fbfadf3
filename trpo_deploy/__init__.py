"""Train TRPO policies, export each to one certified ONNX file, serve it.

The public names are resolved on first use. Running a policy never imports torch, and
``trpo-deploy --help`` answers at once.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from trpo_deploy import errors as errors

if TYPE_CHECKING:
    from trpo_deploy.runtime import OnnxPolicy as OnnxPolicy
    from trpo_deploy.spec.policy_spec import PolicySpec as PolicySpec
    from trpo_deploy.train import TRPO as TRPO

# onnxruntime reads this at its import. Without it, version 1.31 opens a database in ~/.cache and
# starts a thread that uploads telemetry, also on a robot.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.2.0"
__all__ = ["TRPO", "OnnxPolicy", "PolicySpec", "errors"]

# name -> its module, and the extra that the module needs
_PUBLIC = {
    "OnnxPolicy": ("trpo_deploy.runtime", None),
    "PolicySpec": ("trpo_deploy.spec", None),
    "TRPO": ("trpo_deploy.train", "train"),
}


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra = _PUBLIC[name]
    if extra is not None:
        from trpo_deploy.extras import require

        require(extra)
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
