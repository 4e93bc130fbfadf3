"""Classes by name: ``package.module:Class``, and the dotted form of RL Zoo's files."""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter
from typing import Any

from trpo_deploy.errors import ConfigError


def split_class_path(path: str) -> tuple[str, str]:
    """Module and class of ``package.module:Class`` or ``package.module.Class``.

    The module is empty for a name without one.
    """
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    return module, name


def class_path(path: str) -> str:
    """The name as ``package.module:Class``; a name without a module is returned unchanged."""
    module, name = split_class_path(path)
    return f"{module}:{name}" if module else name


def import_class(setting: str, path: str, *kinds: type) -> Any:
    """Import a class from an installed package or the working folder.

    Args:
        setting: Name of the setting, for messages.
        path: ``package.module:Class`` or ``package.module.Class``.
        kinds: The classes of which it must be a subclass of one.

    Raises:
        ConfigError: The name cannot be imported, or is not a subclass of any of ``kinds``.
    """
    module, name = split_class_path(path)
    try:
        found = attrgetter(name)(import_module(module)) if module and name else None
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{setting}={path!r} cannot be imported ({error}); expected module:Class"
        ) from error
    if not (isinstance(found, type) and issubclass(found, kinds)):
        expected = " or ".join(f"{kind.__module__.split('.')[0]} {kind.__name__}" for kind in kinds)
        raise ConfigError(f"{setting}={path!r}: expected a {expected} as module:Class")
    return found
