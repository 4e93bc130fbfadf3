"""A torch policy and its normaliser as an :class:`ActorNetwork`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from trpo_deploy.envs.spaces import space_from_gymnasium
from trpo_deploy.errors import ExportError, SpaceError
from trpo_deploy.export.policy.layers import Layer, Linear
from trpo_deploy.export.policy.network import (
    ActorNetwork,
    Critic,
    FixedStd,
    StateDependentStd,
    Std,
)
from trpo_deploy.export.policy.observations import ObservationInput
from trpo_deploy.export.reader.features import read_features
from trpo_deploy.export.reader.layers import read_array, read_layers, read_linear
from trpo_deploy.export.reader.observations import read_observation
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.spec.spaces import BoxSpace, DictSpace, Space


def read_policy(
    reference: SB3Policy, *, has_std: bool = True, float64_input: bool = False
) -> ActorNetwork:
    """Read a policy and its normaliser into plain arrays.

    Args:
        reference: The torch policy with its normaliser; it is not modified.
        has_std: Whether the policy's standard deviation is the trained one.
        float64_input: Take floating-point observations as float64 and normalise in float64.

    Raises:
        SpaceError: A space is not supported, or the statistics do not fit it.
        ExportError: A layer is not supported, or a key has the name of another key's state.
    """
    policy = reference.policy
    action_space = _action_space(reference.action_space)
    has_keys = isinstance(reference.observation_space, spaces.Dict)
    inputs = tuple(
        read_observation(chain, reference, float64_input=float64_input)
        for chain in reference.chains.values()
    )
    names = tuple(each.name for each in inputs)
    _check_state_names(inputs)
    return ActorNetwork(
        inputs=inputs,
        has_keys=has_keys,
        action_space=action_space,
        features=read_features(policy.pi_features_extractor, policy, names),
        layers=_mlp(policy, "policy_net"),
        head=_head(reference),
        critic=_critic(policy, names),
        std=_std(reference) if has_std and isinstance(action_space, BoxSpace) else None,
        squash=policy.squash_output,
    )


def _action_space(space: spaces.Space[Any]) -> Space:
    found = space_from_gymnasium(space)
    if isinstance(found, DictSpace):
        raise SpaceError("an action space cannot be a Dict")
    if isinstance(found, BoxSpace) and found.dtype.kind != "f":
        raise SpaceError(f"a Box of {found.dtype} actions cannot be exported; expected float")
    return found


def _check_state_names(inputs: Iterable[ObservationInput]) -> None:
    states = {each.frame_stack.state.input.name: each for each in inputs if each.frame_stack}
    for each in inputs:
        if each.name in states:
            raise ExportError(
                f"the observation key {each.name!r} is the name of the earlier frames of "
                f"{states[each.name].name!r}; rename one of the two keys"
            )


def _critic(policy: ActorCriticPolicy, names: tuple[str, ...]) -> Critic:
    features = None
    if not policy.share_features_extractor:
        features = read_features(policy.vf_features_extractor, policy, names)
    return Critic(features, (*_mlp(policy, "value_net"), read_linear(policy.value_net)))


def _mlp(policy: ActorCriticPolicy, net: str) -> tuple[Layer, ...]:
    extractor = policy.mlp_extractor
    shared = getattr(extractor, "shared_net", ())  # SB3 before 1.8
    layers = getattr(extractor, net, None)
    if not isinstance(layers, nn.Sequential):
        raise ExportError(
            f"the policy's mlp_extractor, a {type(extractor).__name__}, has no {net} that is a "
            "torch.nn.Sequential; expected policy_net and value_net, as in SB3's MlpExtractor"
        )
    return read_layers([*shared, layers])


def _head(reference: SB3Policy) -> Linear:
    """The last layer. Its mean is in the environment's units, unless the policy squashes it.

    A wrapper that rescales actions is part of the layer: the policy's bounds become the
    environment's, so the clip after it is the same.
    """
    head = read_linear(reference.policy.action_net)
    if reference.policy.squash_output or not reference.inside.action:
        return head
    scale, shift = (each.flatten() for each in (reference.inside.scale, reference.inside.shift))
    return Linear(
        (scale[:, np.newaxis] * head.weight).astype(np.float32),
        (scale * head.bias + shift).astype(np.float32),
    )


def _std(reference: SB3Policy) -> Std:
    """The standard deviation, in the units of the mean."""
    policy = reference.policy
    distribution = policy.action_dist
    plain = policy.squash_output or not reference.inside.action
    scale = np.ones(()) if plain else reference.inside.scale.flatten()
    with torch.no_grad():
        if not isinstance(distribution, StateDependentNoiseDistribution):
            return FixedStd((scale * read_array(policy.log_std.exp())).astype(np.float32))
        variance = read_array(distribution.get_std(policy.log_std) ** 2)
        return StateDependentStd(
            (scale**2 * variance).astype(np.float32), scale**2 * distribution.epsilon
        )
