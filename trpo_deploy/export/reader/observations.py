"""The steps from an environment's raw observation to the network, read from SB3's wrappers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space

from trpo_deploy.envs.spaces import space_from_gymnasium
from trpo_deploy.export.policy.observations import (
    ChannelsFirst,
    FrameStack,
    Normalizer,
    ObservationInput,
    OneHot,
    ScaleImage,
    Step,
)
from trpo_deploy.sb3.observation_chain import ObservationChain
from trpo_deploy.spec.spaces import BoxSpace, DictSpace, DiscreteSpace, MultiDiscreteSpace, Space


def read_observation(
    chain: ObservationChain, policy: ActorCriticPolicy, *, float64_input: bool
) -> ObservationInput:
    """One array of the observation.

    Args:
        chain: The vec-env wrappers that the array passed in training.
        policy: The policy, which may scale images.
        float64_input: Take floating-point observations as float64.
    """
    space = _frame_space(chain, float64_input)
    return ObservationInput(chain.name, space, tuple(_steps(chain, space, policy)))


def _frame_space(chain: ObservationChain, float64_input: bool) -> Space:
    space = space_from_gymnasium(chain.frame)
    assert not isinstance(space, DictSpace)
    if isinstance(space, BoxSpace) and space.dtype.kind == "f" and float64_input:
        return replace(space, input_dtype="float64")
    return space


def _steps(chain: ObservationChain, space: Space, policy: ActorCriticPolicy) -> Iterator[Step]:
    if isinstance(space, (DiscreteSpace, MultiDiscreteSpace)):
        yield OneHot(space)
        return
    normalize = [] if chain.statistics is None else [_normalizer(chain)]
    if chain.place == "frame":
        yield from normalize
    if chain.n_stack > 1:
        dtype = np.dtype(np.float32) if chain.normalised_before_stacking else space.dtype
        yield FrameStack.of(chain.name, chain.n_stack, chain.stack_axis, chain.state_shape, dtype)
    if chain.place == "stack":
        yield from normalize
    if chain.transposed:
        yield ChannelsFirst()
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
