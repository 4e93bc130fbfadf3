"""What a policy computes between a raw observation and an action, as plain arrays.

Only the deterministic way through Stable-Baselines3's ``ActorCriticPolicy.predict`` is kept:
``VecNormalize.normalize_obs``, ``preprocess_obs``, the features extractor, ``policy_net``,
``action_net``, the distribution's mode, and the clip to the action space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from trpo_deploy.environment import space_from_gymnasium
from trpo_deploy.errors import ExportError, SpaceError
from trpo_deploy.spec import Array, BoxSpace, DiscreteSpace, Space


@dataclass(frozen=True, eq=False)
class Linear:
    """``x @ weight.T + bias``."""

    weight: Array
    """float32, ``(outputs, inputs)``."""
    bias: Array
    """float32, ``(outputs,)``."""


@dataclass(frozen=True)
class Activation:
    """An element-wise function, as its ONNX operator."""

    operator: str
    alpha: float | None = None
    """The operator's one parameter, where it has one."""


Layer: TypeAlias = Linear | Activation


@dataclass(frozen=True, eq=False)
class Normalizer:
    """``clip((obs - mean) / std, -clip, clip)``, as ``VecNormalize`` does it."""

    mean: Array
    """float32, of the observation's shape."""
    std: Array
    """float32, ``sqrt(variance + epsilon)``."""
    clip: float
    epsilon: float


@dataclass(frozen=True, eq=False)
class ActorNetwork:
    """Everything that decides the deterministic action."""

    observation_space: Space
    action_space: Space
    normalizer: Normalizer | None
    layers: tuple[Layer, ...]
    """From the flat features to the mean (Box) or the logits (Discrete)."""

    @property
    def parameter_name(self) -> str:
        """What the last layer gives: the Gaussian's mean or the categorical's logits."""
        return "mean" if isinstance(self.action_space, BoxSpace) else "logits"


def actor_network(policy: ActorCriticPolicy, statistics: VecNormalize | None) -> ActorNetwork:
    """Read a policy and its normaliser into plain arrays.

    Args:
        policy: a torch policy on any device; it is not changed.
        statistics: the ``VecNormalize`` that stood before it in training, if any.

    Raises:
        SpaceError: a space that cannot be exported.
        ExportError: a layer that cannot be exported, or statistics of another shape.
    """
    observation_space = _space(policy.observation_space, "observation")
    return ActorNetwork(
        observation_space=observation_space,
        action_space=_space(policy.action_space, "action"),
        normalizer=_normalizer(statistics, observation_space),
        layers=_layers(policy),
    )


def _space(space: spaces.Space[Any], role: str) -> Space:
    if role == "observation" and is_image_space(space):
        raise SpaceError("image observations cannot be exported yet")
    found = space_from_gymnasium(space)
    if not isinstance(found, (BoxSpace, DiscreteSpace)):
        raise SpaceError(f"the {role} space {space} cannot be exported; supported: Box, Discrete")
    if role == "action" and isinstance(found, BoxSpace) and found.dtype.kind != "f":
        raise SpaceError(f"a Box of {found.dtype} actions cannot be exported; expected float")
    return found


def _normalizer(statistics: VecNormalize | None, space: Space) -> Normalizer | None:
    if statistics is None or not statistics.norm_obs:
        return None
    rms: Any = statistics.obs_rms  # SB3 annotates one of its two forms only
    shape = sorted(rms) if isinstance(rms, dict) else rms.mean.shape
    if shape != space.shape:
        raise ExportError(
            f"the statistics are for observations of shape {shape}, the policy's have "
            f"{space.shape}; give the vecnormalize.pkl of this policy's own run"
        )
    return Normalizer(
        mean=rms.mean.astype(np.float32),
        std=np.sqrt(rms.var + statistics.epsilon).astype(np.float32),
        clip=float(statistics.clip_obs),
        epsilon=float(statistics.epsilon),
    )


_OPERATORS: dict[type[nn.Module], str] = {
    nn.ELU: "Elu",
    nn.LeakyReLU: "LeakyRelu",
    nn.ReLU: "Relu",
    nn.Sigmoid: "Sigmoid",
    nn.Tanh: "Tanh",
}


def _layers(policy: ActorCriticPolicy) -> tuple[Layer, ...]:
    extractor = policy.pi_features_extractor
    if not isinstance(extractor, FlattenExtractor):
        raise ExportError(f"the features extractor {type(extractor).__name__} is not supported")
    if policy.squash_output:
        raise ExportError("squashed actions cannot be exported yet")
    modules = [*policy.mlp_extractor.policy_net, policy.action_net]
    return tuple(_layer(module) for module in modules)


def _layer(module: nn.Module) -> Layer:
    if isinstance(module, nn.Linear):
        return Linear(_array(module.weight), _array(module.bias))
    operator = _OPERATORS.get(type(module))
    if operator is None:
        known = ", ".join(sorted(each.__name__ for each in _OPERATORS))
        raise ExportError(f"the layer {module} cannot be exported; supported: Linear, {known}")
    if isinstance(module, nn.ELU):
        return Activation(operator, module.alpha)
    if isinstance(module, nn.LeakyReLU):
        return Activation(operator, module.negative_slope)
    return Activation(operator)


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    if not np.isfinite(array).all():
        raise ExportError("the policy has weights that are NaN or infinite; it cannot be exported")
    return array
