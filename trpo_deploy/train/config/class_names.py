"""What a preset names and does not hold: classes and schedules."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from stable_baselines3.common import torch_layers
from stable_baselines3.common.sb2_compat import rmsprop_tf_like
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

from trpo_deploy.envs.wrappers import import_class
from trpo_deploy.errors import ConfigError

_LINEAR = re.compile(r"lin_(\S+)")


def linear_schedule(name: str, value: Any) -> float | LinearSchedule:
    """A number, or ``lin_0.001``: from there to zero over the run.

    The schedule is SB3's own class, so that a zip that holds it loads wherever SB3 is.

    Raises:
        ConfigError: neither of the two.
    """
    linear = _LINEAR.fullmatch(value) if isinstance(value, str) else None
    try:
        if isinstance(value, bool) or (isinstance(value, str) and linear is None):
            raise ValueError
        start = float(value if linear is None else linear[1])
        if not (math.isfinite(start) and start >= 0):
            raise ValueError
    except (TypeError, ValueError):
        raise ConfigError(
            f"{name}={value!r}: expected a finite number from 0, or lin_0.001 for a linear "
            "schedule to zero"
        ) from None
    return start if linear is None else LinearSchedule(start, 0.0, 1.0)


def policy_arguments(policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a policy's constructor, with classes in place of their names.

    Raises:
        ConfigError: a name that stands for no class that fits.
    """
    arguments = dict(policy_kwargs)
    for key, (kind, modules) in _CLASSES.items():
        if isinstance(arguments.get(key), str):
            arguments[key] = _class(key, arguments[key], kind, modules)
    _check_net_arch(arguments.get("net_arch"))
    if arguments.get("optimizer_class") in _NO_OPTIMIZERS:
        name = arguments["optimizer_class"].__name__
        raise ConfigError(
            f"policy_kwargs: optimizer_class={name} cannot fit the critic: it asks for more than "
            "a gradient for a step; take Adam or another one"
        )
    return arguments


def _check_net_arch(net_arch: Any) -> None:
    """SB3 takes any key, and leaves out the layers of one that it does not know."""
    # Before 1.8 SB3 had the mapping in a list.
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


_NO_OPTIMIZERS = (torch.optim.LBFGS, torch.optim.SparseAdam)
"""They need a function to call again, and sparse gradients."""


_CLASSES: dict[str, tuple[type, tuple[ModuleType, ...]]] = {
    "activation_fn": (nn.Module, (nn,)),
    "optimizer_class": (torch.optim.Optimizer, (torch.optim, rmsprop_tf_like)),
    "features_extractor_class": (BaseFeaturesExtractor, (torch_layers,)),
}
"""What an argument's class descends from, and where a short name of it is looked up."""


def _class(key: str, name: str, kind: type, modules: tuple[ModuleType, ...]) -> type:
    """``nn.ReLU``, ``torch.nn.ReLU`` and ``ReLU`` are one; other dotted names are imported."""
    prefix, _, short = name.rpartition(".")
    here = [module for module in modules if prefix in _names(module)]
    if not here:
        imported: type = import_class(f"policy_kwargs: {key}", name, kind)
        return imported
    known = {
        public: found
        for module in here
        for public, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, kind)
    }
    if short not in known:
        places = " or ".join(module.__name__ for module in here)
        folded = {known_name.lower(): known_name for known_name in known}
        near = difflib.get_close_matches(short.lower(), folded, n=1)
        hint = f"; did you mean {folded[near[0]]}?" if near else ""
        raise ConfigError(f"policy_kwargs: {key}={name!r} is no {kind.__name__} in {places}{hint}")
    return known[short]


def _names(module: ModuleType) -> tuple[str, ...]:
    """What stands before the dot where a class of the module is meant: ``torch.nn``, ``nn``..."""
    name = module.__name__
    return ("", name, name.replace("torch.", "th."), name.rpartition(".")[2])
