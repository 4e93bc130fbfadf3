"""The chain gives the policy what Stable-Baselines3's wrappers give it."""

from __future__ import annotations

import warnings
from copy import deepcopy
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space_channels_first
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
    unwrap_vec_normalize,
    unwrap_vec_wrapper,
)

from tests.export.policies import SpaceEnv
from trpo_deploy.envs.wrappers import wrap
from trpo_deploy.errors import SpaceError
from trpo_deploy.export import export_model
from trpo_deploy.sb3.observation_chain import ObservationChain, Wrapping, observation_chains
from trpo_deploy.sb3.wrapper_search import ArrayKind
from trpo_deploy.spec.policy_spec import OBS

pytestmark = pytest.mark.filterwarnings("ignore:Treating image space as channels-last")

ORDERS = [
    order
    for count in range(4)
    for order in permutations(("normalize", "stack", "transpose"), count)
]


def image(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


def floats(*shape: int) -> spaces.Box:
    """Bounds that differ between all numbers, so that their order shows."""
    low = -1.0 - np.arange(np.prod(shape)).reshape(shape)
    return spaces.Box(low.astype(np.float32), -low.astype(np.float32))


def _maker(space: spaces.Space[Any]) -> Any:
    """Makes an environment that draws observations by its own seed."""
    return lambda: SpaceEnv(deepcopy(space), spaces.Discrete(2))


def wrapped(
    space: spaces.Space[Any],
    order: tuple[str, ...],
    n_stack: int = 1,
    channels_order: str | None = None,
) -> VecEnv | None:
    """Two environments in SB3's wrappers, as a model has them; ``None`` if SB3 refuses."""
    env: VecEnv = DummyVecEnv([_maker(space)] * 2)
    env.seed(0)
    try:
        for wrapper in order:
            if wrapper == "normalize":
                env = VecNormalize(env, norm_reward=False)
            elif wrapper == "stack":
                env = VecFrameStack(env, n_stack, channels_order)
            else:
                env = VecTransposeImage(env)
        return BaseAlgorithm._wrap_env(env, verbose=0)
    except AssertionError:
        return None


def frames_of(env: VecEnv) -> dict[str, Any]:
    """The raw frames of the last step."""
    bare: Any = env.unwrapped
    raw = bare._obs_from_buf()
    return dict(raw) if isinstance(raw, dict) else {OBS: raw}


def chains_of(env: VecEnv, wrapping: Wrapping) -> dict[str, ObservationChain]:
    return observation_chains(env.observation_space, wrapping, unwrap_vec_normalize(env))


def check(env: VecEnv, chains: dict[str, ObservationChain]) -> None:
    """Compare a reset and three steps, of two environments."""
    normalizer = unwrap_vec_normalize(env)
    if normalizer is not None:
        normalizer.training = False
    observation: Any = env.reset()
    states = {n: c.first_state(2) if c.n_stack > 1 else None for n, c in chains.items()}
    for _ in range(4):
        expected = observation if isinstance(observation, dict) else {OBS: observation}
        for name, frame in frames_of(env).items():
            found, states[name] = chains[name].apply(frame, states[name])
            np.testing.assert_array_equal(found, expected[name])
        observation, *_ = env.step(np.zeros(2, np.int64))


def warm_up(env: VecEnv) -> None:
    """Give the normaliser statistics that differ between all numbers."""
    env.reset()
    for _ in range(3):
        env.step(np.zeros(2, np.int64))


shapes = st.tuples(*[st.integers(1, 9)] * 3)


@given(shapes)
@settings(max_examples=200, deadline=None)
def test_the_layout_of_an_image_is_sb3s(shape: tuple[int, int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = is_image_space_channels_first(image(*shape))
    assert ArrayKind(shape, is_image=True).layout == ("chw" if first else "hwc")


@given(
    shapes,
    st.sampled_from([image, floats]),
    st.sampled_from(ORDERS),
    st.integers(2, 4),
    st.sampled_from([None, "first", "last"]),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore:Treating image space")
def test_a_known_environment_gives_sb3s_observation(
    shape: tuple[int, int, int],
    make: Any,
    order: tuple[str, ...],
    n_stack: int,
    channels_order: str | None,
    has_keys: bool,
) -> None:
    """All shapes, in all orders of the wrappers that SB3 allows."""
    space: Any = make(*shape)
    if has_keys:
        space = spaces.Dict({"a": space, "b": floats(2, 3)})
    env = wrapped(space, order, n_stack, channels_order)
    if env is None:
        return
    warm_up(env)
    stack = n_stack if "stack" in order else 1
    transpose: Any = unwrap_vec_wrapper(env, VecTransposeImage)
    keys = [] if transpose is None else getattr(transpose, "image_space_keys", [OBS])
    chains = chains_of(env, Wrapping(None, stack, space, frozenset(keys)))
    parts = space.spaces if has_keys else {OBS: space}
    assert {name: chain.frame for name, chain in chains.items()} == parts
    check(env, chains)


def levels(*shape: int) -> spaces.Box:
    """Small integers that are not an image."""
    return spaces.Box(0, 7, shape, np.uint8)


@given(shapes, st.sampled_from([image, floats, levels]), st.integers(2, 4))
@settings(max_examples=100, deadline=None)
def test_a_stack_within_the_environment_is_sb3s(
    shape: tuple[int, int, int], make: Any, n_stack: int
) -> None:
    """Training and playing stack frames in the environment itself."""
    space = make(*shape)
    env = wrap(_maker(space)(), None, n_stack)
    sb3 = wrapped(space, ("stack",), n_stack)
    assert sb3 is not None
    stack: Any = unwrap_vec_wrapper(sb3, VecFrameStack)
    expected = stack.reset()
    np.testing.assert_array_equal(env.reset(seed=0)[0], expected[0])
    for _ in range(3):
        observation, *_ = stack.step(np.zeros(2, np.int64))
        np.testing.assert_array_equal(env.step(0)[0], observation[0])
    model_env = BaseAlgorithm._wrap_env(env, verbose=0)
    chains = chains_of(model_env, Wrapping(None, n_stack, space, None, True))
    assert chains[OBS].frame == space


def test_images_of_a_dict_that_were_normalised_are_images(tmp_path: Path) -> None:
    """VecNormalize writes floats into the Dict of the environment itself."""
    space = spaces.Dict({"a": image(6, 7, 3), "b": floats(2)})
    model = PPO(
        "MultiInputPolicy", VecNormalize(DummyVecEnv([_maker(space)])), n_steps=8, batch_size=8
    )
    model.learn(8)
    result = export_model(model, tmp_path / "policy.onnx")
    assert {each.name: each.dtype for each in result.spec.inputs} == {"a": "uint8", "b": "float32"}


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.sampled_from([image, floats]),
    st.sampled_from(ORDERS),
    st.integers(2, 4),
    st.sampled_from([None, "default", "first", "last"]),
)
@settings(max_examples=500, deadline=None)
def test_without_the_environment_a_chain_is_right_or_refused(
    shape: list[int], make: Any, order: tuple[str, ...], n_stack: int, channels_order: str | None
) -> None:
    """Images are transposed last, as SB3 and RL Zoo do. The axis of a stack may be known."""
    if "transpose" in order and order[-1] != "transpose":
        return
    space = make(*shape)
    is_known = channels_order == "default"
    env = wrapped(space, order, n_stack, None if is_known else channels_order)
    if env is None:
        return
    warm_up(env)
    stack = n_stack if "stack" in order else 1
    try:
        chains = chains_of(env, Wrapping(None, stack, stacks_by_default=is_known))
    except SpaceError:
        return
    assert chains[OBS].frame == space
    check(env, chains)
