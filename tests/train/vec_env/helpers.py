"""Environments of a configuration, made in one line."""

from __future__ import annotations

from typing import Any

import pytest

from trpo_deploy.train import load_config
from trpo_deploy.train.run.environments import make_training_env

KINDS = ["sync", "subproc", "envpool"]


def make(env_id: str, kind: str, **settings: Any) -> Any:
    """Two environments, as training makes them; skips where EnvPool is missing."""
    if kind == "envpool":
        pytest.importorskip("envpool")
    settings.setdefault("n_envs", 2)
    return make_training_env(load_config(env_id, vec_env=kind, **settings))
