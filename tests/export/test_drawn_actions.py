"""Actions that the exported file draws have the distribution of those that SB3 draws.

Both draw ``ROWS`` actions for one observation, with fixed seeds: the file, and
``model.predict(deterministic=False)``. Two samples of one distribution exceed a limit with a
probability below 1e-5. With a probability above 0.9, the limits find a difference of 0.04 standard
deviations in a mean, 4 % in a standard deviation, 0.03 in a cumulative probability, and 0.02 in the
probability of a discrete action.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import A2C

from tests.command import run_cli
from tests.export.policies import BOX, make_model, save
from tests.export.test_matrix import ACTIONS
from trpo_deploy import TRPO
from trpo_deploy.errors import PolicyFileError
from trpo_deploy.export import ExportOptions, SourceOptions, export_policy
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.sb3.from_files import load_source
from trpo_deploy.spec.spaces import Array

ROWS = 50_000
OBSERVATION = np.array([0.3, -0.8, 0.5], np.float32)
SMALL = {"net_arch": [8]}
DISCRETE = spaces.Discrete(3)
UNEVEN = spaces.Box(np.array([-2.0, 0.1]), np.array([0.5, 0.3]), dtype=np.float64)
"""Bounds such as 0.1, which float32 cannot represent."""


def parameters_of(action_space: spaces.Space[Any]) -> tuple[str, ...]:
    return ("mean", "std") if isinstance(action_space, spaces.Box) else ("logits",)


def drawn(
    model: Any, action_space: spaces.Space[Any], folder: Path, observation: Any = OBSERVATION
) -> tuple[Array, Array]:
    """Actions ``(ROWS, *shape)`` of the file, and of SB3."""
    parts = observation if isinstance(observation, dict) else {"obs": observation}
    rows = {key: np.tile(part, (ROWS, 1)) for key, part in parts.items()}
    batch = rows if isinstance(observation, dict) else rows["obs"]
    options = ExportOptions(outputs=parameters_of(action_space))
    file = export_policy(save(model, folder), folder / "p.onnx", verify=False, options=options)
    found, _ = OnnxPolicy(file.path, seed=1).predict(batch, deterministic=False)
    model.set_random_seed(2)
    if model.use_sde:
        model.policy.reset_noise(ROWS)  # a noise matrix for each row
    want, _ = model.predict(batch, deterministic=False)
    return found, want


def assert_same_distribution(found: Array, want: Array) -> None:
    """Compare each number of a continuous action."""
    assert found.shape == want.shape
    for one, other in zip(found.reshape(ROWS, -1).T, want.reshape(ROWS, -1).T, strict=True):
        spread = other.std()
        # Five standard errors of a difference of means; six of deviations of Gaussian tails.
        assert abs(one.mean() - other.mean()) < 5 * spread * np.sqrt(2 / ROWS)
        assert abs(one.std() / spread - 1) < 6 / np.sqrt(ROWS)
        assert kolmogorov_smirnov(one, other) < 0.017  # probability 2 exp(-ROWS * 0.017²) = 1e-6


def kolmogorov_smirnov(one: Array, other: Array) -> float:
    """Largest distance of the two cumulative distributions."""
    # Many values lie on a bound, which the file rounds to a float32 inside.
    one, other = (np.round(each.astype(np.float64), 5) for each in (one, other))
    values = np.concatenate([one, other])
    below = [np.searchsorted(np.sort(each), values, side="right") / ROWS for each in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


def assert_same_frequencies(found: Array, want: Array) -> None:
    """Compare the joint frequency of all numbers of a discrete action."""
    assert found.shape == want.shape
    both = np.concatenate([found, want]).reshape(2 * ROWS, -1)
    _, kind = np.unique(both, axis=0, return_inverse=True)
    kinds = kind.reshape(2, ROWS)
    one, other = (np.bincount(each, minlength=kind.max() + 1) / ROWS for each in kinds)
    error = np.sqrt((one + other) * (1 - (one + other) / 2) / ROWS)
    assert (np.abs(one - other) <= 5 * error).all()


@pytest.mark.parametrize("action", ACTIONS)
def test_draws_have_the_distribution_of_stable_baselines3(action: str, tmp_path: Path) -> None:
    space = ACTIONS[action]
    model = make_model(BOX, space, algorithm=TRPO, policy_kwargs=SMALL)
    found, want = drawn(model, space, tmp_path)
    if isinstance(space, spaces.Box):
        assert_same_distribution(found, want)
    else:
        assert_same_frequencies(found, want)


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("algorithm", [TRPO, A2C])
@pytest.mark.parametrize("kind", [{}, {"use_expln": True}, {"full_std": False}])
def test_draws_with_state_dependent_noise(
    kind: dict[str, bool], algorithm: Any, squash: bool, tmp_path: Path
) -> None:
    space = UNEVEN if algorithm is TRPO else BOX
    keywords = {**SMALL, **kind, "squash_output": squash}
    model = make_model(BOX, space, algorithm=algorithm, use_sde=True, policy_kwargs=keywords)
    found, want = drawn(model, space, tmp_path)
    assert_same_distribution(found, want)


@pytest.mark.parametrize("space", [UNEVEN, spaces.Box(-2.0, 3.0, (2, 3))])
def test_draws_of_a_squashed_policy(space: spaces.Box, tmp_path: Path) -> None:
    keywords = {**SMALL, "squash_output": True, "log_std_init": 0.0}
    model = make_model(BOX, space, algorithm=TRPO, policy_kwargs=keywords)
    found, want = drawn(model, space, tmp_path)
    assert_same_distribution(found, want)
    at_bounds = np.mean((found <= space.low + 1e-6) | (found >= space.high - 1e-6))
    assert at_bounds < 0.001  # a clipped Gaussian would be there often


@pytest.mark.parametrize("squash", [False, True])
def test_draws_for_observations_with_keys(squash: bool, tmp_path: Path) -> None:
    space = spaces.Dict({"action": BOX, "mask": spaces.Box(0, 1, (2,), np.bool_)})
    keywords = {**SMALL, "squash_output": squash}
    model = make_model(space, BOX, "MultiInputPolicy", algorithm=TRPO, policy_kwargs=keywords)
    observation = {"action": OBSERVATION, "mask": np.array([True, False])}
    found, want = drawn(model, BOX, tmp_path, observation)
    assert_same_distribution(found, want)


@pytest.mark.parametrize("squash", [False, True])
def test_draws_lie_within_float64_bounds(squash: bool, tmp_path: Path) -> None:
    keywords = {**SMALL, "squash_output": squash}
    model = make_model(BOX, UNEVEN, algorithm=TRPO, policy_kwargs=keywords)
    model.policy.log_std.data.fill_(3.0)
    found, _ = drawn(model, UNEVEN, tmp_path)
    assert all(UNEVEN.contains(action) for action in found)
    # Noise this wide reaches both bounds.
    assert (found.min(axis=0) <= UNEVEN.low + 1e-6).all()
    assert (found.max(axis=0) >= UNEVEN.high - 1e-6).all()


@pytest.mark.parametrize("squash", [False, True])
def test_evaluate_plays_drawn_actions_of_the_file(squash: bool, tmp_path: Path) -> None:
    env = gymnasium.make("Pendulum-v1")
    keywords = {**SMALL, "squash_output": squash}
    model = TRPO("MlpPolicy", env, seed=0, policy_kwargs=keywords)
    save(model, tmp_path)
    outputs = ("--add-output", "mean", "--add-output", "std")
    exported = run_cli("export", tmp_path, "--env", "Pendulum-v1", "--steps", 100, *outputs)
    assert exported.code == 0, exported.error
    evaluate = ("evaluate", tmp_path, "--episodes", 2, "--env", "Pendulum-v1", "--json")
    returns = [
        json.loads(run_cli(*evaluate, *more).output)["returns"] for more in ((), ("--stochastic",))
    ]
    assert returns[0] != returns[1]


def test_a_zip_draws_with_the_trained_deviation_of_its_noise(tmp_path: Path) -> None:
    model = make_model(BOX, BOX, algorithm=TRPO, use_sde=True, policy_kwargs={"net_arch": [256]})
    model.policy.log_std.data.fill_(1.5)
    policy = load_source(save(model, tmp_path), SourceOptions()).reference.policy
    distribution: Any = policy.action_dist
    noise = distribution.exploration_mat.detach().numpy()
    # Five standard errors of the deviation of 768 numbers.
    np.testing.assert_allclose(noise.std(), np.exp(1.5), rtol=5 / np.sqrt(2 * noise.size))


def test_the_message_names_the_outputs_that_a_draw_needs(tmp_path: Path) -> None:
    for space, says in ((BOX, "--add-output mean --add-output std"), (DISCRETE, "logits")):
        model = make_model(BOX, space, policy_kwargs=SMALL)
        file = export_policy(save(model, tmp_path), tmp_path / "p.onnx", verify=False)
        with pytest.raises(PolicyFileError, match=says):
            OnnxPolicy(file.path).predict(OBSERVATION, deterministic=False)


def test_a_guard_gives_the_safe_action_in_place_of_a_draw(tmp_path: Path) -> None:
    model = make_model(BOX, UNEVEN, algorithm=TRPO, policy_kwargs=SMALL)
    options = ExportOptions(outputs=("mean", "std"), guard=True)
    file = export_policy(save(model, tmp_path), tmp_path / "p.onnx", verify=False, options=options)
    policy = OnnxPolicy(file.path, seed=0)
    assert policy.spec.guard is not None
    batch = np.stack([OBSERVATION, np.full(3, np.nan, np.float32)])
    draws = [policy.predict(batch, deterministic=False, validate=False)[0] for _ in range(50)]
    assert all((draw[1] == policy.spec.guard.action).all() for draw in draws)
    assert len({draw[0].tobytes() for draw in draws}) > 10
    assert UNEVEN.contains(policy.spec.guard.action)
