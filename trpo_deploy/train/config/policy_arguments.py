"""Keyword arguments of a policy: classes by name, and the values that SB3 does not check."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from stable_baselines3.common import torch_layers
from stable_baselines3.common.sb2_compat import rmsprop_tf_like
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from trpo_deploy.class_path import import_class, split_class_path
from trpo_deploy.errors import ConfigError

_CLASSES: dict[str, tuple[type, tuple[ModuleType, ...]]] = {
    "activation_fn": (nn.Module, (nn,)),
    "optimizer_class": (torch.optim.Optimizer, (torch.optim, rmsprop_tf_like)),
    "features_extractor_class": (BaseFeaturesExtractor, (torch_layers,)),
}
"""By argument: the base class of its value, and the modules that short names refer to."""

_UNSUPPORTED_OPTIMIZERS = (torch.optim.LBFGS, torch.optim.SparseAdam)
"""LBFGS needs a closure, SparseAdam sparse gradients."""


def policy_arguments(policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the names of classes among a policy's keyword arguments by the classes.

    Raises:
        ConfigError: A name is not a class that fits, or ``net_arch`` is invalid.
    """
    arguments = dict(policy_kwargs)
    for key, (kind, modules) in _CLASSES.items():
        if isinstance(arguments.get(key), str):
            arguments[key] = _class(key, arguments[key], kind, modules)
    _check_net_arch(arguments.get("net_arch"))
    if arguments.get("optimizer_class") in _UNSUPPORTED_OPTIMIZERS:
        name = arguments["optimizer_class"].__name__
        raise ConfigError(
            f"policy_kwargs: optimizer_class={name} cannot train the critic: its step needs more "
            "than a dense gradient; use Adam or another first-order optimiser"
        )
    return arguments


def _class(key: str, path: str, kind: type, modules: tuple[ModuleType, ...]) -> type:
    """The class of ``ReLU``, ``nn.ReLU`` or ``torch.nn.ReLU``; other names are imported."""
    prefix, name = split_class_path(path)
    searched = [module for module in modules if prefix in _prefixes(module)]
    if not searched:
        imported: type = import_class(f"policy_kwargs: {key}", path, kind)
        return imported
    known = {
        public: found
        for module in searched
        for public, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, kind)
    }
    if name not in known:
        places = " or ".join(module.__name__ for module in searched)
        folded = {known_name.lower(): known_name for known_name in known}
        near = difflib.get_close_matches(name.lower(), folded, n=1)
        hint = f"did you mean {folded[near[0]]}?" if near else "use module:Class for your own"
        raise ConfigError(
            f"policy_kwargs: {key}={path!r}: expected a {kind.__name__} of {places}; {hint}"
        )
    return known[name]


def _prefixes(module: ModuleType) -> tuple[str, ...]:
    """The prefixes that refer to a module: none, ``torch.nn``, ``th.nn`` and ``nn``."""
    name = module.__name__
    return ("", name, name.replace("torch.", "th."), name.rpartition(".")[2])


def _check_net_arch(net_arch: Any) -> None:
    """Check the hidden layers: SB3 accepts any key and ignores the layers of unknown ones."""
    # SB3 before 1.8 wrote the mapping as the only item of a list.
    old = isinstance(net_arch, list) and len(net_arch) == 1 and isinstance(net_arch[0], dict)
    networks = net_arch[0] if old else net_arch
    if networks is None:
        return
    named = networks if isinstance(networks, dict) else {"pi": networks}
    known = named.keys() <= {"pi", "vf"}
    widths = [layers for layers in named.values() if isinstance(layers, (list, tuple))]
    whole = all(type(width) is int and width > 0 for layers in widths for width in layers)
    if not (known and whole and len(widths) == len(named)):
        raise ConfigError(
            f"policy_kwargs: net_arch={net_arch!r}: expected the widths of hidden layers, such as "
            "[64, 64], or {pi: [64, 64], vf: [64, 64]} for actor and critic"
        )
