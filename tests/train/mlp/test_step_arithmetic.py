"""The compiled arithmetic of a step equals NumPy's up to rounding."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from tests.train.environments import RandomEnv
from tests.train.mlp.policies import FROM_INPUT
from trpo_deploy import TRPO
from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.mlp import step_arithmetic, step_numpy
from trpo_deploy.train.mlp.activation_kernels import activation_kernels
from trpo_deploy.train.mlp.standard_mlp import standard_mlp
from trpo_deploy.train.mlp.step_arithmetic import StepArithmetic, choose_arithmetic
from trpo_deploy.train.mlp.step_numpy import StepLayer

NUMBERS = st.floats(-1e9, 1e9) | st.sampled_from([0.0, np.inf, -np.inf, np.nan])
pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")


@pytest.fixture(scope="module")
def compiled() -> StepArithmetic:
    if step_arithmetic.compiled is None:
        pytest.skip("needs a C compiler while the project is installed")
    return step_arithmetic.compiled


def array(data: st.DataObject, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    size = int(np.prod(shape))
    values = data.draw(st.lists(NUMBERS, min_size=size, max_size=size))
    return np.array(values, dtype).reshape(shape)


@given(
    data=st.data(),
    n=st.integers(1, 9),
    shape=st.sampled_from([(), (1,), (5,), (2, 3)]),
    dtype=st.sampled_from([np.float32, np.float64, np.int64]),
)
def test_normalizer_statistics_and_values_are_equal(
    compiled: StepArithmetic, data: st.DataObject, n: int, shape: tuple[int, ...], dtype: Any
) -> None:
    whole = np.issubdtype(dtype, np.integer)
    batch = np.nan_to_num(array(data, (n, *shape), np.float64)) if whole else None
    batch = array(data, (n, *shape), dtype) if batch is None else batch.astype(dtype)
    mean = np.arange(np.prod(shape)).reshape(shape) + 0.25
    var = 1e-8 + 2 * mean - 0.5  # the first as small as the epsilon below
    expected = step_numpy.updated_moments(batch, mean, var, 3.5)
    found = compiled.updated_moments(batch, mean, var, 3.5)
    for ours, numpys in zip(found, expected, strict=True):
        assert isinstance(ours, np.ndarray)
        assert ours.shape == shape
        # float64 sums in another order, with squares of up to 1e18 that cancel out
        np.testing.assert_allclose(ours, numpys, rtol=1e-10, atol=1e3)
    arguments = batch, mean, var, 1e-8, 1e6
    ours, numpys = compiled.normalized(*arguments), step_numpy.normalized(*arguments)
    assert ours.dtype == numpys.dtype == np.float32
    np.testing.assert_allclose(ours, numpys, rtol=1e-7)  # one rounding for each number


def test_running_moments_equal_those_of_all_rows(compiled: StepArithmetic) -> None:
    rows = np.random.default_rng(0).normal(1e3, 2.0, (600, 4))
    for arithmetic in (compiled, step_numpy):
        mean, var, count = np.zeros(4), np.ones(4), 0.0
        for batch in rows.reshape(300, 2, 4):
            mean, var = arithmetic.updated_moments(batch, mean, var, count)
            count += 2
        np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(var, rows.var(axis=0), rtol=1e-9)  # squares of 1e3


@pytest.mark.parametrize("n_envs", [1, 2, 8])
@pytest.mark.parametrize("widths", [(3, 2), (17, 64, 64, 6), (5, 1, 30, 7)], ids=str)
@pytest.mark.parametrize("with_norms", [False, True])
@pytest.mark.parametrize(
    "kind", [nn.Tanh, nn.ReLU, nn.Sigmoid, *FROM_INPUT], ids=lambda kind: repr(kind())
)
def test_forward_passes_are_equal(
    compiled: StepArithmetic,
    kind: Callable[[], nn.Module],
    widths: tuple[int, ...],
    n_envs: int,
    with_norms: bool,
) -> None:
    rng = np.random.default_rng(0)

    def numbers(*shape: int) -> Array:
        return rng.normal(size=shape).astype(np.float32)

    layers: list[StepLayer] = []
    for inputs, outputs in itertools.pairwise(widths):
        if layers and with_norms:
            layers.append(StepLayer(numbers(inputs), numbers(inputs), norm_eps=1e-3))
        weight = numbers(outputs, inputs).T  # transposed, as torch stores it
        layers.append(StepLayer(weight, numbers(outputs), activation_kernels(kind())))
    layers[-1] = layers[-1]._replace(activation=None)
    passes = compiled.forward_pass(layers, n_envs), step_numpy.forward_pass(layers, n_envs)
    for dtype in (np.float32, np.float64):
        observations = rng.normal(size=(n_envs, widths[0])).astype(dtype)
        for ours, numpys in zip(*(forward(observations) for forward in passes), strict=True):
            # float32 sums of 64 numbers in another order, which may cancel out
            largest = float(np.abs(numpys).max())
            np.testing.assert_allclose(ours, numpys, rtol=1e-5, atol=3e-6 * largest)


def test_tanh_is_accurate_over_its_whole_range(compiled: StepArithmetic) -> None:
    x = np.concatenate([np.linspace(-12, 12, 100_001), np.geomspace(1e-37, 1, 1000)])
    x = np.append(x, [0.0, np.inf, -np.inf]).astype(np.float32)
    identity = StepLayer(np.ones((1, 1), np.float32), np.zeros(1, np.float32))
    layers = [identity._replace(activation=activation_kernels(nn.Tanh())), identity]
    forward = compiled.forward_pass(layers, len(x))
    found = forward(x[:, None])[1].ravel()
    # Half a step of float32 is 6e-8, the formula's error 2e-8.
    np.testing.assert_allclose(found, np.tanh(x.astype(np.float64)), rtol=9e-8)
    assert np.isnan(compiled.forward_pass(layers, 1)(np.array([[np.nan]]))[1])


@given(data=st.data(), n=st.integers(1, 9), shape=st.sampled_from([(), (1,), (5,), (2, 3)]))
def test_explored_actions_are_equal(
    compiled: StepArithmetic, data: st.DataObject, n: int, shape: tuple[int, ...]
) -> None:
    flat = (n, int(np.prod(shape)))
    mean, noise = array(data, flat, np.float32), array(data, flat, np.float32)
    place = np.arange(np.prod(flat), dtype=np.float32)
    deviation = 0.5 + place.reshape(flat)
    low, high = (np.reshape(sign * (2 + place), (n, *shape)) for sign in (-1, 1))
    arguments = mean, noise, deviation, low, high
    for ours, numpys in zip(
        compiled.explored(*arguments), step_numpy.explored(*arguments), strict=True
    ):
        assert ours.dtype == numpys.dtype == np.float32
        np.testing.assert_allclose(ours, numpys, rtol=1e-6)  # one rounding, fused or not


def test_arrays_of_other_sizes_are_refused(compiled: StepArithmetic) -> None:
    zeros = np.zeros
    layer = StepLayer(zeros((3, 2)), zeros(2))
    norm = StepLayer(zeros(3), zeros(3), norm_eps=1e-5)
    forward = compiled.forward_pass([layer], 2)
    for call in (
        lambda: forward(zeros((1, 3))),
        lambda: forward(zeros((2, 4))),
        lambda: compiled.forward_pass([layer._replace(bias=zeros(1))], 2),
        lambda: compiled.forward_pass([layer, layer], 2),
        lambda: compiled.forward_pass([layer, norm], 2),
        lambda: compiled.forward_pass([norm._replace(bias=zeros(4))], 2),
        lambda: compiled.forward_pass([norm._replace(weight=zeros((3, 3)))], 2),
        lambda: compiled.explored(zeros((2, 3)), zeros((2, 3)), zeros(3), *[zeros((2, 3))] * 2),
        lambda: compiled.updated_moments(zeros((2, 3)), zeros(4), zeros(4), 1.0),
        lambda: compiled.updated_moments(zeros((2, 3)), zeros(3), zeros(2), 1.0),
        lambda: compiled.normalized(zeros((2, 3)), zeros(3), zeros(2), 0.0, 1.0),
        lambda: compiled.normalized(zeros((2, 3)), zeros(2), zeros(2), 0.0, 1.0),
    ):
        with pytest.raises(ValueError, match=r"shape|zip"):
            call()


@pytest.mark.parametrize(
    ("space", "n_envs", "kwargs", "fast"),
    [
        (spaces.Box(-1, 1, (2,)), 8, {}, True),
        (spaces.Discrete(3), 1, {"activation_fn": nn.ReLU}, True),
        (spaces.Box(-1, 1, (2,)), 9, {}, False),
        (spaces.Box(-1, 1, (2,), np.float64), 2, {}, False),
        (spaces.Box(-1, 1, (2,)), 2, {"activation_fn": nn.ELU}, False),
    ],
    ids=str,
)
def test_the_compiled_functions_are_chosen_where_supported_and_faster(
    compiled: StepArithmetic, space: Any, n_envs: int, kwargs: Any, fast: bool
) -> None:
    env = DummyVecEnv([lambda: RandomEnv(space)] * n_envs)
    model = TRPO("MlpPolicy", env, n_steps=128, policy_kwargs=kwargs, device="cpu")
    mlp = standard_mlp(model.policy)
    assert mlp is not None
    assert choose_arithmetic(model, mlp) is (compiled if fast else step_numpy)
