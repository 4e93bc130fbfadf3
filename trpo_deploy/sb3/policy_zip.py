"""Reads policy zips and statistics of any Stable-Baselines3 version without running code from them.

Both formats hold pickles; :mod:`trpo_deploy.sb3.pickles` reads them without calling anything.
Entries that are not needed, such as learning-rate functions, are never decoded at all. What a
file claims to be large is held against what it holds before room is made for it.

The layout mirrored here is that of ``stable_baselines3.common.save_util`` (zip: ``data`` as
JSON with cloudpickled values in base64, ``policy.pth`` as a torch state dict) and of
``stable_baselines3.common.vec_env.VecNormalize.__getstate__``.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common import policies
from torch import nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from trpo_deploy.envs.space_translation import sb3_action_space, sb3_observation_space
from trpo_deploy.errors import (
    ConfigError,
    PolicyZipError,
    TrpoDeployError,
    UnsafePickleError,
)
from trpo_deploy.sb3.archive import Entries, read_entries, read_weights
from trpo_deploy.sb3.legacy import with_shared_layers

SUPPORTED = "MlpPolicy, CnnPolicy and MultiInputPolicy of TRPO, PPO or A2C"


@dataclass(frozen=True)
class PolicyZip:
    """A policy as its zip describes it, decoded but not built."""

    path: Path
    algorithm: str
    """``TRPO``, ``PPO`` or ``A2C``."""
    policy_class: type[policies.ActorCriticPolicy]
    policy_kwargs: Mapping[str, Any]
    observation_space: spaces.Space[Any]
    """Behind all vec-env wrappers; counted from its own start, and of its own axes."""
    action_space: spaces.Space[Any]
    """The environment's, likewise."""
    use_sde: bool
    weights: Mapping[str, torch.Tensor]
    num_timesteps: int
    """Environment steps the policy was trained for."""
    sb3_version: str
    sha256: str
    skipped: tuple[str, ...]
    """Entries of the zip's ``data`` that hold pickles and were not decoded."""
    has_std: bool
    """False for gSDE with features of its own (SB3 before 1.8): its noise cannot be rebuilt."""

    def build_policy(self) -> policies.ActorCriticPolicy:
        """The policy as Stable-Baselines3's own module, on the CPU, in evaluation mode.

        Raises:
            PolicyZipError: the weights do not fit the architecture that the zip names.
        """
        try:
            # Building draws initial weights; the caller's random state is not ours to move.
            with torch.random.fork_rng(devices=[]), _Bounded(self.weights):
                policy = self._unloaded()
            policy.load_state_dict(self._complete(policy.state_dict()))
        except TrpoDeployError:
            raise
        except Exception as error:  # SB3, and networks of the user's own, raise what they like
            reason = " ".join(str(error).split())
            raise PolicyZipError(
                f"{self.path}: the weights do not make the policy that the zip describes ({reason})"
            ) from error
        policy.set_training_mode(False)
        return policy

    def _unloaded(self) -> policies.ActorCriticPolicy:
        kwargs = {**self.policy_kwargs, "ortho_init": False, "optimizer_class": _NoOptimizer}
        net_arch = kwargs.get("net_arch")
        policy_class = self.policy_class
        if any(name.startswith("mlp_extractor.shared_net.") for name in self.weights):
            policy_class = with_shared_layers(policy_class)
        elif isinstance(net_arch, list) and len(net_arch) == 1 and isinstance(net_arch[0], dict):
            # SB3 before 1.8 wrote [dict(pi=..., vf=...)]; since then it is the mapping itself.
            kwargs["net_arch"] = net_arch[0]
        with warnings.catch_warnings():
            # SB3 remarks on unusual images, old keywords and sizes of nothing.
            warnings.simplefilter("ignore", UserWarning)
            return policy_class(
                sb3_observation_space(self.observation_space),
                sb3_action_space(self.action_space),
                lambda _: 0.0,
                use_sde=self.use_sde,
                **kwargs,
            )

    def _complete(self, expected: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights under all names that a policy has today."""
        weights = dict(self.weights)
        if not self.has_std:
            weights["log_std"] = expected["log_std"]
        for name in expected:
            # SB3 before 1.7 had one extractor under one name.
            original = re.sub(r"^(pi|vf)_features_extractor", "features_extractor", name)
            if name not in weights and original in weights:
                weights[name] = weights[original]
        return {name: each for name, each in weights.items() if not _is_old_noise(name)}


class _NoOptimizer:
    """A policy that only acts needs none, and torch's take seconds to import."""

    def __init__(self, *_: object, **__: object) -> None:
        pass


class _Bounded(TorchFunctionMode):
    """Refuses to make more or larger layers than a file has weights for.

    A few bytes of a zip can name a network of terabytes.
    """

    def __init__(self, weights: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self._elements = sum(each.numel() for each in weights.values())
        self._layers = 2 * len(weights) + 16  # a few for what has no weights

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in (torch.empty, torch.ones, torch.zeros):
            sizes = args[0] if args and isinstance(args[0], (tuple, list, torch.Size)) else args
            self._layers -= 1
            if math.prod(sizes) > self._elements or self._layers < 0:
                raise ValueError(
                    f"it names a layer of {tuple(sizes)}, the file holds {self._elements} weights"
                )
        return func(*args, **(kwargs or {}))


def _is_old_noise(name: str) -> bool:
    return name.startswith("sde_features_extractor.")


def read_policy_zip(path: Path, allow_import: Iterable[str] = ()) -> PolicyZip:
    """Read an actor-critic policy of TRPO, PPO or A2C.

    Args:
        path: the zip.
        allow_import: classes of the user's own, as ``package.module:Class``, that the zip may
            name. They are imported, which runs their module.

    Raises:
        PolicyZipError: no zip, a truncated one, or no policy of the supported kinds.
        UnsafePickleError: a needed entry refers to code outside of the allow-list.
        ConfigError: a class of the user's own cannot be imported.
    """
    allowed = _imported(allow_import)
    content, version, weight_bytes = read_entries(path)
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise PolicyZipError(f"{path}: the entry 'data' is no JSON ({error})") from error
    if not isinstance(data, dict):
        raise PolicyZipError(f"{path}: the entry 'data' is no JSON object")
    entries = Entries(path, data, allowed)
    policy_class = _policy_class(entries)
    policy_kwargs = _policy_kwargs(path, entries.get("policy_kwargs"))
    weights = read_weights(path, weight_bytes)
    return PolicyZip(
        path=path,
        algorithm=_algorithm(path, data),
        policy_class=policy_class,
        policy_kwargs=policy_kwargs,
        observation_space=_space(entries, "observation_space"),
        action_space=_space(entries, "action_space"),
        use_sde=bool(data.get("use_sde", False)),
        weights=weights,
        num_timesteps=_timesteps(data),
        sb3_version=version,
        sha256=sha256(path.read_bytes()).hexdigest(),
        skipped=entries.skipped(),
        has_std=not any(_is_old_noise(name) for name in weights),
    )


def _algorithm(path: Path, data: Mapping[str, Any]) -> str:
    """Told by the hyperparameters, since the zip does not name its class."""
    if "cg_max_steps" in data:
        return "TRPO"
    if "clip_range" in data:
        return "PPO"
    if "gae_lambda" in data:
        return "A2C"
    raise PolicyZipError(f"{path} is no actor-critic policy; supported: {SUPPORTED}")


def _policy_class(entries: Entries) -> type[policies.ActorCriticPolicy]:
    try:
        value = entries.get("policy_class")
    except UnsafePickleError as error:
        other = re.search(r"(?:stable_baselines3|sb3_contrib)\.[\w.]*policies\.(\w+)", str(error))
        if other is None:
            raise
        raise PolicyZipError(
            f"{entries.path} is a {other[1]}, which is not supported; supported: {SUPPORTED}"
        ) from error
    if isinstance(value, type) and issubclass(value, policies.ActorCriticPolicy):
        return value
    raise PolicyZipError(f"{entries.path}: the policy's class is none; supported: {SUPPORTED}")


def _imported(names: Iterable[str]) -> dict[str, type]:
    """The user's own classes, by the name that a pickle has for them."""
    found = {}
    for name in names:
        module, _, attribute = name.partition(":")
        try:
            value = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"{name!r} cannot be imported ({error}); expected package.module:Class"
            ) from error
        if not (isinstance(value, type) and issubclass(value, (nn.Module, Optimizer))):
            raise ConfigError(
                f"{name!r} is no class of a network (torch.nn.Module) or optimiser, and no wrapper "
                "of the run"
            )
        found[f"{value.__module__}.{value.__qualname__}"] = value
        found[f"{module}.{attribute}"] = value
    return found


# What changes the actions of a policy; the rest of SB3's keywords concern training only.
_ACTING_KEYWORDS = frozenset(
    {
        "net_arch",
        "activation_fn",
        "log_std_init",
        "full_std",
        "use_expln",
        "squash_output",
        "features_extractor_class",
        "features_extractor_kwargs",
        "share_features_extractor",
        "normalize_images",
    }
)


# sde_net_arch (SB3 before 1.8) gives gSDE's noise features of its own; see PolicyZip.has_std.
_TRAINING_KEYWORDS = frozenset(
    {"ortho_init", "optimizer_class", "optimizer_kwargs", "use_sde", "sde_net_arch"}
)


def _policy_kwargs(path: Path, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise PolicyZipError(f"{path}: policy_kwargs is {type(value).__name__}, expected a mapping")
    unknown = set(value) - _ACTING_KEYWORDS - _TRAINING_KEYWORDS
    if unknown:
        raise PolicyZipError(f"{path}: unknown policy_kwargs {sorted(map(str, unknown))}")
    return {name: item for name, item in value.items() if name in _ACTING_KEYWORDS}


def _space(entries: Entries, name: str) -> spaces.Space[Any]:
    """The environment's space, where our own TRPO saved it beside the one that SB3 was given."""
    own = f"env_{name}"
    value = entries.get(own if own in entries else name)
    if isinstance(value, spaces.Space):
        return value
    raise PolicyZipError(f"{entries.path}: {name} is {type(value).__name__}, expected a space")


def _timesteps(data: Mapping[str, Any]) -> int:
    value = data.get("num_timesteps", 0)
    return value if isinstance(value, int) else 0
