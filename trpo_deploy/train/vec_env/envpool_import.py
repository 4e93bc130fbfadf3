"""Imports EnvPool without the environments that a run does not need."""

from __future__ import annotations

import importlib
import sys
import threading
from contextlib import suppress
from types import ModuleType
from typing import Any

from trpo_deploy.errors import MissingExtraError

_IMPORTING = threading.Lock()


def import_envpool(env_id: str) -> Any:
    """EnvPool with MuJoCo's environments, and with all others only if ``env_id`` needs them.

    Importing all of them, with matplotlib, takes a second and 95 MB, a quarter of a run's memory.
    Without them ``envpool.make`` knows no other ids; ``import envpool.entry`` registers them.

    Raises:
        MissingExtraError: EnvPool is not installed or cannot be imported.
    """
    all_environments = "envpool.entry"
    try:
        with _IMPORTING:
            if "envpool" not in sys.modules:
                sys.modules[all_environments] = ModuleType(all_environments)
                try:
                    with suppress(ImportError):  # the import below raises and reports it again
                        importlib.import_module("envpool.mujoco.gym.registration")
                finally:
                    del sys.modules[all_environments]
            import envpool

            if env_id not in envpool.list_all_envs():
                importlib.import_module(all_environments)
    except ImportError as error:
        raise MissingExtraError(
            f'EnvPool cannot be imported ({error}); run: pip install "trpo-deploy[envpool]"'
        ) from error
    return envpool
