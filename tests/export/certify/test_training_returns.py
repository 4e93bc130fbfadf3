"""The training's own returns reveal what a reading of its run has missed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.command import run_cli
from tests.export.policies import BOX, make_model, save
from trpo_deploy.export import Check, SourceOptions, export_policy, verify_policy
from trpo_deploy.export.certify.training_returns import (
    EPISODES,
    FALSE_ALARM,
    NAME,
    POWER,
    SHARE,
    GainScale,
)
from trpo_deploy.files.certificate import read_certificate
from trpo_deploy.files.runs import find_run
from trpo_deploy.sb3.evaluations import read_evaluations
from trpo_deploy.sb3.from_files import load_source
from trpo_deploy.sb3.training_record import TrainingRecord

DRAWS = 1000


def test_a_file_at_the_share_is_rarely_accused_and_one_at_random_is_seen() -> None:
    rng = np.random.default_rng(0)
    accused = seen = 0
    power = []
    for _ in range(DRAWS):
        scale = GainScale(rng.normal(300.0, 150.0, 10), rng.normal(0.0, 50.0, EPISODES))
        at_share = rng.normal(SHARE * 300.0, 150.0, 48)
        at_random = rng.normal(0.0, 150.0, 48)
        accused += scale.is_below(at_share, SHARE)
        seen += scale.is_below(at_random, SHARE)
        power.append(scale.power(at_random, SHARE))
    # Three standard errors of a frequency in 1000 draws: 0.3 % at 0.1 %, 4 % at 80 %. The power is
    # estimated from each draw, and on average rather too small.
    assert accused / DRAWS <= FALSE_ALARM + 0.003
    assert seen / DRAWS >= np.mean(power) - 0.04


@pytest.mark.parametrize(
    ("training", "right", "wrong", "random"),
    # Means and deviations of trained policies, with and without their normaliser.
    [
        ((1801, 46), (1796, 50), (151, 100), (-283, 70)),  # HalfCheetah
        ((3626, 10), (3682, 4), (42, 20), (18, 15)),  # Hopper
        ((3907, 500), (4100, 300), (308, 100), (2, 5)),  # Walker2d
        ((-105, 14), (-107, 14), (-200, 0), (-200, 0)),  # MountainCar
    ],
)
def test_a_policy_without_its_normaliser_is_far_below(
    training: tuple[float, float],
    right: tuple[float, float],
    wrong: tuple[float, float],
    random: tuple[float, float],
) -> None:
    rng = np.random.default_rng(1)
    scale = GainScale(rng.normal(*training, 20), rng.normal(*random, EPISODES))
    assert not scale.is_below(rng.normal(*right, 48), SHARE)
    assert scale.is_below(rng.normal(*wrong, 48), SHARE)
    assert scale.power(rng.normal(*right, 48), SHARE) > POWER


def test_a_training_that_learned_nothing_is_no_scale() -> None:
    rng = np.random.default_rng(2)
    returns = rng.normal(0, 1, (3, 20))
    assert GainScale(returns[0], returns[0] + 1).power(returns[2], SHARE) == 0.0
    assert GainScale(returns[0], returns[1]).power(returns[2], SHARE) < POWER
    two_episodes = GainScale(np.array([90.0, 110.0]), returns[1])
    assert two_episodes.power(returns[2], SHARE) < POWER


def copied(agents: Path, name: str, folder: Path) -> tuple[Path, Path]:
    """A copy of an agent's run, and the folder of its configuration."""
    shutil.copytree(agents / name, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder, folder / name.removesuffix("_1")


def forget_returns(policy_zip: Path) -> None:
    """Remove the returns of the last training episodes from a zip."""
    with ZipFile(policy_zip) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(entries["data"])
    del data["ep_info_buffer"]
    entries["data"] = json.dumps(data).encode()
    with ZipFile(policy_zip, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def test_statistics_that_are_left_out_are_a_failure(agents: Path, tmp_path: Path) -> None:
    run, configuration = copied(agents, "MountainCar-v0_1", tmp_path / "run")
    (configuration / "vecnormalize.pkl").unlink()
    onnx = tmp_path / "policy.onnx"
    failed = run_cli("export", run, "--no-normalize-check", "-o", onnx)
    failed.assert_one_clear_line(NAME, "-200 (file, 48 episodes)", "(--vecnormalize FILE)")
    assert not onnx.exists()


def test_wrong_arguments_of_the_environment_are_a_failure(agents: Path, tmp_path: Path) -> None:
    run, configuration = copied(agents, "Pendulum-v1_1", tmp_path / "run")
    (configuration / "args.yml").write_text("env_kwargs:\n  g: 20.0\n")
    failed = run_cli("export", run, "-o", tmp_path / "policy.onnx")
    failed.assert_one_clear_line(NAME, "arguments of the environment")


def test_nothing_recorded_is_said_by_export_card_and_inspect(agents: Path, tmp_path: Path) -> None:
    run, _ = copied(agents, "CartPole-v1_1", tmp_path / "run")
    (run / "evaluations.npz").unlink()
    forget_returns(run / "CartPole-v1.zip")
    source = load_source(find_run(run), SourceOptions())
    assert source.recorded_returns() == ()
    onnx = run / "policy.onnx"
    exported = run_cli("export", run, "-o", onnx)
    inspected = run_cli("inspect", onnx)
    assert f"{NAME}: " in onnx.with_suffix(".md").read_text()
    for text in (exported.output, inspected.output):
        assert "no witness (returns of training): neither the model nor an evaluation" in text
    certificate = read_certificate(onnx)
    assert certificate is not None
    assert certificate["verdict"] == "pass"
    assert certificate["checks"][-1]["passed"] is None


def test_an_environment_that_cannot_be_made_is_said(agents: Path, tmp_path: Path) -> None:
    exported = run_cli("export", agents / "ReacherBulletEnv-v0_1", "-o", tmp_path / "p.onnx")
    assert exported.code == 0
    assert "not played: no environment is registered as ReacherBulletEnv-v0" in exported.output
    assert "no witness (returns of training): not played" in exported.output


def test_only_evaluations_near_the_policys_timesteps_are_used(tmp_path: Path) -> None:
    path = tmp_path / "evaluations.npz"
    steps = np.array([100, 1000, 1040, 2000])
    np.savez(path, timesteps=steps, results=np.outer(steps, [1.0, 1.0]))
    assert set(read_evaluations(path, 1040)) == {1040}
    assert set(read_evaluations(path, 1020)) == {1000, 1040}
    assert set(read_evaluations(path, 1100)) == {1040}
    assert read_evaluations(path, 500) == {}
    assert read_evaluations(path, 0) == {}


def test_the_last_training_episodes_are_used(agents: Path) -> None:
    source = load_source(find_run(agents / "CartPole-v1_1"), SourceOptions())
    returns = np.arange(100.0)
    found = replace(source, training_record=TrainingRecord(episode_returns=returns))
    evaluation, every, last = found.recorded_returns()
    # At 100000 steps, but the policy has 100352.
    assert [each.same_policy for each in (evaluation, every, last)] == [False] * 3
    at_once = replace(source, training={"timesteps": 100_000}, training_record=TrainingRecord())
    assert [each.same_policy for each in at_once.recorded_returns()] == [True]
    assert every.returns.tolist() == returns.tolist()
    assert last.returns.tolist() == [*range(90, 100)]
    one = replace(
        source, evaluations={}, training_record=TrainingRecord(episode_returns=returns[:1])
    )
    assert one.recorded_returns() == ()


class Alternate(gymnasium.Env[Any, Any]):
    """Pays an amount for the action 0 or 1, if the action before was another one."""

    observation_space = BOX
    action_space = spaces.Discrete(8)

    def __init__(self, amount: float = 1.0, *, repeated: bool = False) -> None:
        self._amount, self._repeated = amount, repeated
        self._steps, self._last = 0, -1

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._steps, self._last = 0, -1
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        paid = action < 2 and (self._repeated or action != self._last)
        self._last = int(action)
        reward = self._amount if paid else 0.0
        return np.zeros(3, np.float32), reward, False, self._steps >= 50, {}


@pytest.fixture
def undecided_between_0_and_1(tmp_path: Path) -> Path:
    """A policy that draws one of both actions, and its evaluation with 25 rewards of 1."""
    model = make_model(BOX, spaces.Discrete(8))
    with torch.no_grad():
        model.policy.action_net.weight.zero_()
        model.policy.action_net.bias.zero_()
        model.policy.action_net.bias[:2] = 6.0
    save(model, tmp_path)
    rewards = np.random.default_rng(0).binomial(50, 0.5, (1, 20))
    np.savez(tmp_path / "evaluations.npz", timesteps=[0], results=rewards)
    return tmp_path


@pytest.fixture
def register() -> Iterator[Callable[..., None]]:
    """Register :class:`Alternate` under an id until the end of the test."""
    names = []

    def registered(name: str, **arguments: Any) -> None:
        gymnasium.register(name, lambda **_: Alternate(**arguments))
        names.append(name)

    yield registered
    for name in names:
        del gymnasium.registry[name]


def witness(folder: Path, env_id: str) -> Check:
    certificate = verify_policy(
        find_run(folder), folder / "policy.onnx", reading=SourceOptions(env_id=env_id)
    )
    (check,) = (check for check in certificate.checks if check.name == NAME)
    return check


def test_a_policy_that_needs_its_noise_is_not_accused(
    undecided_between_0_and_1: Path, register: Callable[..., None]
) -> None:
    register("Alternate-v0")
    folder = undecided_between_0_and_1
    export_policy(find_run(folder), folder / "policy.onnx")
    check = witness(folder, "Alternate-v0")
    assert check.passed
    assert "actions drawn as in training get" in check.note


def test_another_version_of_the_environment_is_undecided(
    undecided_between_0_and_1: Path, register: Callable[..., None]
) -> None:
    """The file gets 43 % of the gain, or nothing of it."""
    folder = undecided_between_0_and_1
    export_policy(find_run(folder), folder / "policy.onnx")
    register("Half-v1", amount=0.25, repeated=True)
    half = witness(folder, "Half-v0")
    assert half.passed is None
    assert "undecided" in half.note
    assert "Half-v1 in place of Half-v0" in half.note
    assert witness(folder, "Half-v1").passed is False
    register("Nothing-v1", amount=0.01)
    assert witness(folder, "Nothing-v0").passed is False


class OneLife(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Ends an episode after five steps, as Atari's wrapper does after a life."""

    steps = 0

    def reset(self, **arguments: Any) -> Any:
        self.steps = 0
        return super().reset(**arguments)

    def step(self, action: Any) -> Any:
        self.steps += 1
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or self.steps == 5, truncated, info


@pytest.mark.parametrize("wrapped", [True, False])
def test_returns_recorded_inside_a_wrapper_that_changes_rewards_do_not_accuse(
    wrapped: bool, undecided_between_0_and_1: Path, register: Callable[..., None]
) -> None:
    register("Whole-v0", amount=1.0 if wrapped else 0.1, repeated=True)
    folder = undecided_between_0_and_1
    name = f"{OneLife.__module__}:OneLife"
    (folder / "config.yaml").write_text(
        f"env_id: Whole-v0\nenv_wrapper: {name if wrapped else 'null'}\n"
    )
    export_policy(find_run(folder), folder / "policy.onnx", verify=False)
    reading = SourceOptions(allow_import=(name,) if wrapped else ())
    certificate = verify_policy(find_run(folder), folder / "policy.onnx", reading=reading)
    (check,) = (check for check in certificate.checks if check.name == NAME)
    assert check.passed is (None if wrapped else False)
    assert (name in check.note) is wrapped
