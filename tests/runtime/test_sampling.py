"""Samples have the distribution of the file's outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.runtime.policy_files import ACTION_SPACES, box, write_policy
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.spaces import Array, MultiDiscreteSpace

ROWS = 20_000
# Five standard errors of a proportion or mean over ROWS draws.
TOLERANCE = 5 * 0.5 / np.sqrt(ROWS)


def sample(tmp_path: Path, action: str, *, squash: bool = False) -> tuple[Array, dict[str, Array]]:
    """Many samples for one observation, and the distribution's parameters for it."""
    space = ACTION_SPACES[action]
    path = tmp_path / "p.onnx"
    file = write_policy(path, action_space=space, distribution=True, squash=squash, seed=3)
    policy = OnnxPolicy(file, seed=0)
    observation = np.array([0.1, -0.2, 0.3, 0.1], np.float32)
    actions, _ = policy.predict(np.tile(observation, (ROWS, 1)), deterministic=False)
    names = [tensor.name for tensor in policy.spec.outputs if tensor.name != "action"]
    outputs = policy.run(names, {"obs": observation[None]})
    return actions, {name: out[0] for name, out in zip(names, outputs, strict=True)}


def softmax(logits: Array) -> Array:
    weights: Array = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())


def test_discrete_samples_have_the_frequencies_of_the_softmax(tmp_path: Path) -> None:
    actions, outputs = sample(tmp_path, "discrete")
    found = np.bincount(actions - 2, minlength=4) / ROWS
    np.testing.assert_allclose(found, softmax(outputs["logits"]), atol=TOLERANCE)


def test_each_component_of_a_multi_discrete_sample_has_its_own_softmax(tmp_path: Path) -> None:
    actions, outputs = sample(tmp_path, "multi_discrete")
    for column, logits, start in ((0, outputs["logits"][:2], 0), (1, outputs["logits"][2:], 5)):
        found = np.bincount(actions[:, column] - start, minlength=len(logits)) / ROWS
        np.testing.assert_allclose(found, softmax(logits), atol=TOLERANCE)


def test_multi_binary_samples_have_the_frequencies_of_the_sigmoid(tmp_path: Path) -> None:
    actions, outputs = sample(tmp_path, "multi_binary")
    want = 1 / (1 + np.exp(-outputs["logits"]))
    np.testing.assert_allclose(actions.mean(axis=0), want, atol=TOLERANCE)
    assert actions.dtype == np.int8


def test_box_samples_are_gaussian_and_clipped(tmp_path: Path) -> None:
    actions, outputs = sample(tmp_path, "box")
    low, high = np.array([-1, -2], np.float32), np.array([1, 2], np.float32)
    rng = np.random.default_rng(9)
    noise = rng.standard_normal((ROWS, 2), np.float32)
    want = np.clip(outputs["mean"] + outputs["std"] * noise, low, high)
    for quantile in (0.1, 0.3, 0.5, 0.7, 0.9):
        found = np.quantile(actions, quantile, axis=0)
        np.testing.assert_allclose(found, np.quantile(want, quantile, axis=0), atol=0.05)
    assert (actions >= low).all()
    assert (actions <= high).all()


def test_squashed_samples_are_the_tanh_of_a_gaussian(tmp_path: Path) -> None:
    actions, outputs = sample(tmp_path, "box", squash=True)
    unit = np.arctanh(np.clip(actions / [1, 2], -0.999999, 0.999999))
    np.testing.assert_allclose(np.median(unit, axis=0), outputs["mean"], atol=0.03)
    spread = (np.quantile(unit, 0.75, axis=0) - np.quantile(unit, 0.25, axis=0)) / 1.349
    np.testing.assert_allclose(spread, outputs["std"], atol=0.03)


@pytest.mark.parametrize("action", ACTION_SPACES)
def test_a_seed_repeats_the_samples(tmp_path: Path, action: str) -> None:
    space = ACTION_SPACES[action]
    file = write_policy(tmp_path / "p.onnx", action_space=space, distribution=True)
    observation = np.zeros(4, np.float32)

    def some(seed: int) -> list[list[float]]:
        policy = OnnxPolicy(file, seed=seed)
        actions = [policy.predict(observation, deterministic=False)[0] for _ in range(20)]
        assert all(a.shape == space.shape and a.dtype == space.dtype for a in actions)
        return [a.tolist() for a in actions]

    assert some(1) == some(1) != some(2)


def test_large_logits_give_the_mode_without_a_warning(tmp_path: Path) -> None:
    space = MultiDiscreteSpace(np.array([2, 3]), np.array([0, 0]))
    for action in (space, ACTION_SPACES["multi_binary"]):
        file = write_policy(tmp_path / "p.onnx", box(4), action, distribution=True)
        policy = OnnxPolicy(file, seed=0)
        observation = np.full((50, 4), 1e4, np.float32)
        drawn, _ = policy.predict(observation, deterministic=False)
        mode, _ = policy.predict(observation)
        np.testing.assert_array_equal(drawn, mode)
