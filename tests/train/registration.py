"""Registers environments for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium


def register(env_id: str, make: Callable[..., gymnasium.Env[Any, Any]], **arguments: Any) -> None:
    """Register an environment by its class; Gymnasium's own checker stays off."""
    gymnasium.register(env_id, entry_point=make, kwargs=arguments, disable_env_checker=True)
