"""Classes that the user allows a pickle to name."""

from __future__ import annotations

from collections.abc import Iterable

from gymnasium import spaces
from torch import nn
from torch.optim import Optimizer

from trpo_deploy.class_path import import_class, split_class_path


def imported_classes(names: Iterable[str]) -> dict[str, type]:
    """Import classes; keyed by the names that a pickle can have for them.

    Args:
        names: Networks, optimisers and spaces, as ``package.module:Class``.

    Raises:
        ConfigError: A class cannot be imported, or is none of these.
    """
    found = {}
    for name in names:
        value = import_class("--allow-import", name, nn.Module, Optimizer, spaces.Space)
        found[f"{value.__module__}.{value.__qualname__}"] = value
        found[".".join(split_class_path(name))] = value
    return found
