"""Classes by name: ``package.module:Class``, and the dotted form of RL Zoo's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def class_list(setting: str, value: Any) -> list[tuple[str, dict[str, Any]]]:
    """Convert RL Zoo's three forms to one: ``[("module:Class", {argument: value}), ...]``.

    Args:
        setting: Name of the setting, for messages.
        value: A name, a mapping of names to their arguments, a list of these, or None. A name is
            ``module:Class``, or ``module.Class`` as in RL Zoo's files.

    Raises:
        ConfigError: The value has another form.
    """
    if value is None:
        return []
    if isinstance(value, str):
        return [(class_path(value), {})]
    if isinstance(value, Mapping):
        arguments = [each for each in value.values() if each is not None]
        if all(isinstance(each, str) for each in value) and all(
            isinstance(each, Mapping) for each in arguments
        ):
            return [(class_path(name), dict(each or {})) for name, each in value.items()]
    elif isinstance(value, Sequence):
        return [each for item in value for each in class_list(setting, item)]
    raise ConfigError(
        f"{setting}={value!r}: expected module:Class, or a list of names or of "
        "{module:Class: {argument: value}}"
    )


def construct(setting: str, path: str, arguments: Mapping[str, Any], kind: type) -> Any:
    """Make an instance of a class that :func:`import_class` imports.

    Raises:
        ConfigError: The class cannot be imported, or its constructor refuses the arguments.
    """
    made = import_class(setting, path, kind)
    try:
        return made(**arguments)
    except Exception as error:  # a user's code raises anything
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{setting} {path} with {dict(arguments)}: {type(error).__name__}: {reason}"
        ) from error


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
    except Exception as error:  # a user's module raises anything
        raise ConfigError(
            f"{setting}={path!r} cannot be imported ({error}); expected module:Class"
        ) from error
    if not (isinstance(found, type) and issubclass(found, kinds)):
        expected = " or ".join(f"{kind.__module__.split('.')[0]} {kind.__name__}" for kind in kinds)
        raise ConfigError(f"{setting}={path!r}: expected a {expected} as module:Class")
    return found
