"""The steps from an environment's raw observation to the network, read from SB3's wrappers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import DtypeObservation, NormalizeObservation, RescaleObservation
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space

from trpo_deploy.envs.spaces import space_from_gymnasium
from trpo_deploy.export.policy.observations import (
    ChannelsFirst,
    FrameStack,
    Normalizer,
    ObservationInput,
    OneHot,
    Rescale,
    Reshape,
    ScaleImage,
    Step,
    ToFloat,
)
from trpo_deploy.sb3.inside_wrappers import ObservationWrapper, rescaling
from trpo_deploy.sb3.observation_chain import ObservationChain
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.spec.spaces import BoxSpace, DictSpace, DiscreteSpace, MultiDiscreteSpace, Space


def read_observation(
    chain: ObservationChain, reference: SB3Policy, *, float64_input: bool
) -> ObservationInput:
    """One array of the observation.

    Args:
        chain: The vec-env wrappers that the array passed in training.
        reference: The policy, which may scale images, and the environment's wrappers.
        float64_input: Take floating-point observations as float64.
    """
    wrappers = reference.inside.observation
    first = wrappers[0].env.observation_space if wrappers else chain.frame
    space = _frame_space(first, float64_input)
    steps = list(_wrapper_steps(wrappers))
    still_float64 = float64_input and all(isinstance(step, Reshape) for step in steps)
    steps += _steps(chain, _frame_space(chain.frame, still_float64), reference.policy)
    return ObservationInput(chain.name, space, tuple(steps))


def _frame_space(frame: spaces.Space[Any], float64_input: bool) -> Space:
    space = space_from_gymnasium(frame)
    assert not isinstance(space, DictSpace)
    if isinstance(space, BoxSpace) and space.dtype.kind == "f" and float64_input:
        return replace(space, input_dtype="float64")
    return space


def _wrapper_steps(wrappers: Iterable[ObservationWrapper]) -> Iterator[Step]:
    """The steps of Gymnasium's wrappers, from the environment outwards."""
    for wrapper in wrappers:
        if isinstance(wrapper, NormalizeObservation):
            rms = wrapper.obs_rms
            std = np.sqrt(np.asarray(rms.var, np.float64) + wrapper.epsilon)
            yield Normalizer(np.asarray(rms.mean, np.float64), std, np.inf, wrapper.epsilon)
        elif isinstance(wrapper, RescaleObservation):
            yield Rescale(*rescaling(wrapper))
        elif isinstance(wrapper, DtypeObservation):
            yield ToFloat()
        else:
            yield Reshape(wrapper.observation_space.shape or ())


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
