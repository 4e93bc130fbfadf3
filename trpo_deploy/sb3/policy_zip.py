"""Read policy zips of any Stable-Baselines3 version without running code from them.

The zip contains pickles, which :mod:`trpo_deploy.sb3.pickles` reads without calling anything.
Entries that the policy does not need, such as learning-rate functions, are not decoded. Claimed
sizes are checked against the file's content before memory is allocated.

The layout is that of ``stable_baselines3.common.save_util``: ``data`` as JSON with cloudpickled
values in base64, and ``policy.pth`` as a torch state dict.
"""

from __future__ import annotations

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
from torch.overrides import TorchFunctionMode

from trpo_deploy.envs.space_translation import sb3_action_space, sb3_observation_space
from trpo_deploy.errors import (
    PolicyZipError,
    TrpoDeployError,
    UnsafePickleError,
)
from trpo_deploy.sb3.archive import Entries, read_entries, read_weights
from trpo_deploy.sb3.imported_classes import imported_classes
from trpo_deploy.sb3.legacy import with_shared_layers
from trpo_deploy.sb3.supported_policies import SUPPORTED, unsupported
from trpo_deploy.sb3.training_record import TrainingRecord, read_training_record


@dataclass(frozen=True)
class PolicyZip:
    """A decoded policy zip. :meth:`build_policy` makes the network."""

    path: Path
    algorithm: str
    """``TRPO``, ``PPO`` or ``A2C``."""
    policy_class: type[policies.ActorCriticPolicy]
    policy_kwargs: Mapping[str, Any]
    observation_space: spaces.Space[Any]
    """Behind all vec-env wrappers. Not yet translated to a space that SB3 supports."""
    action_space: spaces.Space[Any]
    """The environment's. Not translated either."""
    use_sde: bool
    weights: Mapping[str, torch.Tensor]
    num_timesteps: int
    """Number of environment steps of the training."""
    sb3_version: str
    sha256: str
    skipped: tuple[str, ...]
    """Pickled entries of the zip's ``data`` that were not decoded."""
    training_record: TrainingRecord
    has_std: bool
    """False for gSDE with ``sde_net_arch`` (SB3 before 1.8), whose noise cannot be rebuilt."""
    return_moments: Mapping[str, float] | None = None
    """``mean``, ``var`` and ``count`` of the returns, in whose deviations our TRPO's critic with
    ``scale_returns`` computes values; None without that option."""

    def build_policy(self) -> policies.ActorCriticPolicy:
        """Build SB3's policy with the zip's weights, on the CPU, in evaluation mode.

        Raises:
            PolicyZipError: The weights do not fit the architecture in the zip.
        """
        try:
            # Building samples initial weights; keep the caller's random state.
            with torch.random.fork_rng(devices=[]), _Bounded(self.weights):
                policy = self._unloaded()
                policy.load_state_dict(self._complete(policy.state_dict()))
                if policy.use_sde:
                    policy.reset_noise()  # the noise of the trained deviation, as SB3's load does
        except TrpoDeployError:
            raise
        except Exception as error:  # SB3 and custom networks raise anything
            reason = " ".join(str(error).split())
            raise PolicyZipError(
                f"{self.path}: the weights do not fit the policy that the zip describes ({reason})"
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
            # SB3 before 1.8 wrote [dict(pi=..., vf=...)], newer versions write the mapping itself.
            kwargs["net_arch"] = net_arch[0]
        with warnings.catch_warnings():
            # SB3 warns about unusual images, old keywords and empty layers.
            warnings.simplefilter("ignore", UserWarning)
            return policy_class(
                sb3_observation_space(self.observation_space),
                sb3_action_space(self.action_space),
                lambda _: 0.0,
                use_sde=self.use_sde,
                **kwargs,
            )

    def _complete(self, expected: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights under the names of the current SB3."""
        weights = dict(self.weights)
        if not self.has_std:
            weights["log_std"] = expected["log_std"]
        for name in expected:
            # SB3 before 1.7 saved one features extractor under one name.
            original = re.sub(r"^(pi|vf)_features_extractor", "features_extractor", name)
            if name not in weights and original in weights:
                weights[name] = weights[original]
        return {name: each for name, each in weights.items() if not _is_old_noise(name)}


class _NoOptimizer:
    """Stand-in: a policy that only acts needs no optimizer, and torch's take seconds to import."""

    def __init__(self, *_: object, **__: object) -> None:
        pass


class _Bounded(TorchFunctionMode):
    """Raises on more or larger layers than the file has weights for.

    A few bytes of a zip can describe a network of terabytes.
    """

    def __init__(self, weights: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self._elements = sum(each.numel() for each in weights.values())
        self._layers = 2 * len(weights) + 16  # a few more for layers without weights

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in (torch.empty, torch.ones, torch.zeros):
            sizes = args[0] if args and isinstance(args[0], (tuple, list, torch.Size)) else args
            self._layers -= 1
            if math.prod(sizes) > self._elements or self._layers < 0:
                raise ValueError(
                    f"it has a layer of {tuple(sizes)}, but the file has {self._elements} weights"
                )
        return func(*args, **(kwargs or {}))


def _is_old_noise(name: str) -> bool:
    return name.startswith("sde_features_extractor.")


def read_policy_zip(path: Path, allow_import: Iterable[str] = ()) -> PolicyZip:
    """Read an actor-critic policy of TRPO, PPO or A2C.

    Args:
        path: The zip.
        allow_import: Further classes that the zip may name, as ``package.module:Class``. They
            are imported, which runs their module.

    Raises:
        PolicyZipError: The file is not a zip, is truncated, or has an unsupported policy.
        UnsafePickleError: A needed entry refers to a name outside the allow-list.
        ConfigError: A class of ``allow_import`` cannot be imported.
    """
    allowed = imported_classes(allow_import)
    content, version, weight_bytes = read_entries(path)
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise PolicyZipError(f"{path}: the entry 'data' is not JSON ({error})") from error
    if not isinstance(data, dict):
        raise PolicyZipError(f"{path}: the entry 'data' is not a JSON object")
    entries = Entries(path, data, allowed)
    policy_class = _policy_class(entries)
    policy_kwargs = _policy_kwargs(path, entries.get("policy_kwargs"))
    weights = read_weights(path, weight_bytes)
    record = read_training_record(lambda name: _kept(entries, name))
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
        training_record=record,
        skipped=entries.skipped(),
        has_std=not any(_is_old_noise(name) for name in weights),
        return_moments=_return_moments(path, data),
    )


def _algorithm(path: Path, data: Mapping[str, Any]) -> str:
    """The algorithm, from its hyperparameters, since the zip does not name its class."""
    if "cg_max_steps" in data:
        return "TRPO"
    if "clip_range" in data:
        return "PPO"
    if "gae_lambda" in data:
        return "A2C"
    raise PolicyZipError(f"{path} is not an actor-critic policy; supported: {SUPPORTED}")


def _policy_class(entries: Entries) -> type[policies.ActorCriticPolicy]:
    try:
        value = entries.get("policy_class")
    except UnsafePickleError as error:
        other = re.search(r"(?:stable_baselines3|sb3_contrib)\.[\w.]*policies\.(\w+)", str(error))
        if other is None:
            raise
        raise PolicyZipError(
            f"{entries.path} has a {other[1]}, which is not supported; supported: {SUPPORTED}"
        ) from error
    if not isinstance(value, type):
        raise PolicyZipError(
            f"{entries.path}: policy_class is not a policy; supported: {SUPPORTED}"
        )
    problem = unsupported(value)
    if problem:
        raise PolicyZipError(f"{entries.path} has a {problem}")
    return value


def _kept(entries: Entries, name: str) -> object:
    """An entry that may be missing; errors do not name the zip, as they go into certificates."""
    try:
        return entries.get(name) if name in entries else None
    except PolicyZipError as error:
        raise PolicyZipError(str(error).removeprefix(f"{entries.path}: ")) from error


# Keywords that change the actions; the others of SB3 concern the training only.
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

# sde_net_arch: separate features for the noise of gSDE (SB3 before 1.8); see PolicyZip.has_std.
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
    """The environment's space if our TRPO saved it in addition to SB3's, else SB3's.

    SB3 sends discrete actions counted from zero, whatever the start of their space.
    """
    own = f"env_{name}"
    value = entries.get(own if own in entries else name)
    if isinstance(value, (spaces.Discrete, spaces.MultiDiscrete)) and own not in entries:
        return sb3_action_space(value) if name == "action_space" else value
    if isinstance(value, spaces.Space):
        return value
    raise PolicyZipError(f"{entries.path}: {name} is {type(value).__name__}, expected a space")


def _return_moments(path: Path, data: Mapping[str, Any]) -> dict[str, float] | None:
    if data.get("scale_returns") is not True:
        return None
    value = data.get("return_moments")
    names = ("mean", "var", "count")
    if isinstance(value, dict) and value.keys() == set(names):
        numbers = [value[name] for name in names]
        real = all(isinstance(each, (int, float)) and math.isfinite(each) for each in numbers)
        if real and min(numbers[1:]) >= 0:
            return dict(zip(names, map(float, numbers), strict=True))
    raise PolicyZipError(
        f"{path}: return_moments is {value!r}, expected the finite numbers mean, var and count"
    )


def _timesteps(data: Mapping[str, Any]) -> int:
    value = data.get("num_timesteps", 0)
    return value if isinstance(value, int) else 0
