"""From a torch policy and its normaliser to the plain arrays of :mod:`~.network`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
)
from torch import nn

from trpo_deploy.envs.spaces import space_from_gymnasium
from trpo_deploy.errors import ExportError, SpaceError
from trpo_deploy.export.graph.traced import traced_features
from trpo_deploy.export.policy.network import (
    Activation,
    ActorNetwork,
    Branch,
    ChannelsFirst,
    Conv,
    Critic,
    Features,
    FixedStd,
    Flatten,
    Layer,
    Linear,
    Normalizer,
    ObservationInput,
    OneHot,
    ScaleImage,
    StateDependentStd,
    Step,
    frame_stack,
)
from trpo_deploy.export.profiles import OUTPUTS
from trpo_deploy.sb3.observation_chain import ObservationChain
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.spec.policy_spec import OBS
from trpo_deploy.spec.spaces import (
    Array,
    BoxSpace,
    DictSpace,
    DiscreteSpace,
    MultiDiscreteSpace,
    Space,
)

SMALLEST_GOOD_STD = 1e-3
"""Below it, float32 rounding of an observation is amplified more than a thousand times."""


def read_policy(
    reference: SB3Policy, *, has_std: bool = True, float64_input: bool = False
) -> ActorNetwork:
    """Read a policy and its normaliser into plain arrays.

    Args:
        reference: a torch policy with its normaliser; it is not changed.
        has_std: whether the policy's standard deviation is the trained one.
        float64_input: take floating-point observations as float64, and normalise in it.

    Raises:
        SpaceError: a space that cannot be exported, or statistics that do not fit it.
        ExportError: a layer that cannot be exported, or a key that is in the way.
    """
    policy = reference.policy
    action_space = _action_space(reference.action_space)
    has_keys = isinstance(reference.observation_space, spaces.Dict)
    inputs = tuple(_input(chain, policy, float64_input) for chain in reference.chains.values())
    _check_names([each.name for each in inputs] if has_keys else [])
    names = tuple(each.name for each in inputs)
    return ActorNetwork(
        inputs=inputs,
        has_keys=has_keys,
        action_space=action_space,
        features=_features(policy.pi_features_extractor, policy, names),
        layers=_mlp(policy, "policy_net"),
        head=_linear(policy.action_net),
        critic=Critic(
            None
            if policy.share_features_extractor
            else _features(policy.vf_features_extractor, policy, names),
            (*_mlp(policy, "value_net"), _linear(policy.value_net)),
        ),
        std=_std(policy) if has_std and isinstance(action_space, BoxSpace) else None,
        squash=policy.squash_output,
        warnings=tuple(_small_std(inputs, float64_input)),
    )


def _action_space(space: spaces.Space[Any]) -> Space:
    found = space_from_gymnasium(space)
    if isinstance(found, DictSpace):
        raise SpaceError("an action space cannot be a Dict")
    if isinstance(found, BoxSpace) and found.dtype.kind != "f":
        raise SpaceError(f"a Box of {found.dtype} actions cannot be exported; expected float")
    return found


def _check_names(keys: Iterable[str]) -> None:
    taken = {*OUTPUTS, *(f"{prefix}{key}" for key in keys for prefix in ("state_", "next_state_"))}
    for key in keys:
        if key in taken or key.startswith("/") or not key:
            raise ExportError(
                f"the observation has a key named {key!r}, which the file needs for itself "
                f"({', '.join(OUTPUTS)}, state_KEY, next_state_KEY, and names that begin with /); "
                "rename the key"
            )


# --- from the environment to the network ----------------------------------------------------


def _input(
    chain: ObservationChain, policy: ActorCriticPolicy, float64_input: bool
) -> ObservationInput:
    space = _frame_space(chain, float64_input)
    return ObservationInput(chain.name, space, tuple(_steps(chain, space, policy)))


def _frame_space(chain: ObservationChain, float64_input: bool) -> Space:
    space = space_from_gymnasium(chain.frame)
    assert not isinstance(space, DictSpace)
    if isinstance(space, BoxSpace) and space.dtype.kind == "f" and float64_input:
        return replace(space, input_dtype="float64")
    return space


def _steps(chain: ObservationChain, space: Space, policy: ActorCriticPolicy) -> Iterable[Step]:
    if isinstance(space, (DiscreteSpace, MultiDiscreteSpace)):
        yield OneHot(space)
        return
    normalise = [] if chain.statistics is None else [_normalizer(chain)]
    if chain.place == "frame":
        yield from normalise
    if chain.n_stack > 1:
        dtype = np.dtype(np.float32) if chain.normalised_before_stacking else space.dtype
        yield frame_stack(chain.name, chain.n_stack, chain.stack_axis, chain.state_shape, dtype)
    if chain.place == "stack":
        yield from normalise
    if chain.transposed:
        yield ChannelsFirst()
    if chain.place == "network":
        yield from normalise
    if policy.normalize_images and is_image_space(_network_space(chain.name, policy)):
        yield ScaleImage()


def _network_space(name: str, policy: ActorCriticPolicy) -> spaces.Space[Any]:
    space = policy.observation_space
    return space[name] if isinstance(space, spaces.Dict) else space


def _normalizer(chain: ObservationChain) -> Normalizer:
    assert chain.statistics is not None
    return Normalizer(
        mean=chain.statistics.mean,
        std=np.sqrt(chain.statistics.var + chain.epsilon),
        clip=chain.clip,
        epsilon=chain.epsilon,
    )


def _small_std(inputs: Iterable[ObservationInput], float64_input: bool) -> Iterable[str]:
    for each in inputs:
        normalizer = each.normalizer
        if normalizer is None or float64_input or normalizer.std.min() >= SMALLEST_GOOD_STD:
            continue
        yield (
            f"{each.name}: the smallest standard deviation is {normalizer.std.min():.1e}, so "
            f"float32 rounding of the observation is amplified; --float64-input avoids it"
        )


# --- features, actor and critic -------------------------------------------------------------


def _features(
    extractor: BaseFeaturesExtractor, policy: ActorCriticPolicy, names: tuple[str, ...]
) -> Features:
    kind = type(extractor)
    if kind is FlattenExtractor:
        return (Branch(OBS, (Flatten(),)),)
    if kind is NatureCNN:
        return (Branch(OBS, _nature_cnn(extractor)),)
    if kind is CombinedExtractor:
        # In the order of the modules: that is how SB3 puts the features together.
        assert isinstance(extractor.extractors, nn.ModuleDict)
        return tuple(
            Branch(key, _nature_cnn(each) if isinstance(each, NatureCNN) else (Flatten(),))
            for key, each in extractor.extractors.items()
        )
    return traced_features(extractor, policy, names)


def _nature_cnn(extractor: Any) -> tuple[Layer, ...]:
    return _layers([*extractor.cnn, *extractor.linear])


def _mlp(policy: ActorCriticPolicy, net: str) -> tuple[Layer, ...]:
    shared = getattr(policy.mlp_extractor, "shared_net", ())  # of SB3 before 1.8
    return _layers([*shared, *getattr(policy.mlp_extractor, net)])


def _std(policy: ActorCriticPolicy) -> FixedStd | StateDependentStd:
    distribution = policy.action_dist
    with torch.no_grad():
        if not isinstance(distribution, StateDependentNoiseDistribution):
            return FixedStd(_array(policy.log_std.exp()))
        return StateDependentStd(
            _array(distribution.get_std(policy.log_std) ** 2), distribution.epsilon
        )


def _layers(modules: Iterable[nn.Module]) -> tuple[Layer, ...]:
    kept = (each for each in modules if not isinstance(each, (nn.Identity, nn.Dropout)))
    return tuple(_layer(module) for module in kept)


# torch.nn's class and the attributes that are its function's parameters
_ACTIVATIONS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.CELU: ("alpha",),
    nn.ELU: ("alpha",),
    nn.GELU: (),
    nn.Hardsigmoid: (),
    nn.Hardswish: (),
    nn.Hardtanh: ("min_val", "max_val"),
    nn.LeakyReLU: ("negative_slope",),
    nn.LogSigmoid: (),
    nn.Mish: (),
    nn.ReLU: (),
    nn.ReLU6: ("min_val", "max_val"),
    nn.SELU: (),
    nn.SiLU: (),
    nn.Sigmoid: (),
    nn.Softplus: (),
    nn.Softsign: (),
    nn.Tanh: (),
}


def _layer(module: nn.Module) -> Layer:
    if isinstance(module, nn.Linear):
        return _linear(module)
    if isinstance(module, nn.Flatten):
        return Flatten()
    if isinstance(module, nn.Conv2d):
        return _conv(module)
    attributes = _ACTIVATIONS.get(type(module))
    if attributes is None:
        known = ", ".join(sorted(each.__name__ for each in _ACTIVATIONS))
        raise ExportError(
            f"the layer {module} cannot be exported; supported: Linear, Conv2d, {known}"
        )
    values = tuple(float(getattr(module, name)) for name in attributes)
    return Activation(type(module).__name__, values)


def _linear(module: nn.Module) -> Linear:
    assert isinstance(module, nn.Linear)
    bias = torch.zeros(module.out_features) if module.bias is None else module.bias
    return Linear(_array(module.weight), _array(bias))


def _conv(module: nn.Conv2d) -> Conv:
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise ExportError(f"the layer {module} cannot be exported; its padding is not in numbers")
    bias = torch.zeros(module.out_channels) if module.bias is None else module.bias
    stride, padding, dilation = (
        (int(pair[0]), int(pair[1])) for pair in (module.stride, module.padding, module.dilation)
    )
    return Conv(_array(module.weight), _array(bias), stride, padding, dilation, module.groups)


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy().astype(np.float32)
    if not np.isfinite(array).all():
        raise ExportError("the policy has weights that are NaN or infinite; it cannot be exported")
    return array
