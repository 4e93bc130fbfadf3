"""Both backends play the environment of the training, wherever the policy's files are."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import ClipReward, TimeLimit
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from tests.export.policies import make_model
from tests.runtime.policy_files import box, write_policy
from trpo_deploy.errors import EnvError, ModelDirError
from trpo_deploy.export import SourceOptions, export_model, export_policy
from trpo_deploy.files.runs import find_run
from trpo_deploy.play import evaluate
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.environment import EnvironmentSpec, WrapperSpec

FORMAT_1 = Path(__file__).parents[1] / "fixtures" / "format-1"
"""A run of Pendulum-v1 with ``g=2.0`` and ``frame_stack=2``, written by version 0.1."""
ONLY_THE_ID = "records the environment's id only"
TORQUE = box(1, low=-2.0, high=2.0)
SHORT = WrapperSpec("gymnasium.wrappers:TimeLimit", {"max_episode_steps": 3})

EVIL = """
import pathlib
import gymnasium
pathlib.Path(__file__).with_suffix(".imported").touch()
class Doubled(gymnasium.ActionWrapper):
    def action(self, action):
        return 2 * action
gymnasium.register("Evil-v0", "gymnasium.envs.classic_control:PendulumEnv", max_episode_steps=3)
"""


def returns_of(model: Path, **options: Any) -> list[float]:
    found: list[float] = evaluate(model, episodes=2, **options).returns.tolist()
    return found


def copied(file: Path, target: Path) -> Path:
    return Path(shutil.copy(file, target))


@pytest.fixture(scope="module")
def expected() -> Any:
    """The fixture's policy as SB3 plays it in the environment of its training.

    The tolerance is for the float32 rounding in which onnxruntime differs from torch. The
    environment without ``g`` or without the stack gives returns that are some 10 % off.
    """
    return pytest.approx(returns_of(FORMAT_1, backend="torch"), rel=1e-4)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the fixture's run, exported again as format 2."""
    folder = tmp_path / "run"
    shutil.copytree(FORMAT_1, folder)
    for part in (folder, folder / "best"):
        export_policy(find_run(part), part / "policy.onnx", verify=False)
    return folder


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that leaves a file when it is imported; the fixture is that file."""
    (tmp_path / "evil.py").write_text(EVIL)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "evil.imported"
    sys.modules.pop("evil", None)
    gymnasium.registry.pop("Evil-v0", None)


@pytest.mark.parametrize("part", ["", "policy.onnx", "best", "best/policy.onnx"])
def test_a_file_of_format_1_plays_the_environment_of_its_run(part: str, expected: Any) -> None:
    assert returns_of(FORMAT_1 / part) == expected


@pytest.mark.parametrize("part", ["", "policy.zip", "policy.onnx", "best", "best/policy.zip"])
def test_torch_plays_the_same_from_every_file_of_the_run(part: str, expected: Any) -> None:
    assert returns_of(FORMAT_1 / part, backend="torch") == expected


def test_a_file_of_format_1_on_its_own_says_what_it_does_not_record(
    tmp_path: Path, expected: Any
) -> None:
    alone = copied(FORMAT_1 / "policy.onnx", tmp_path / "policy.onnx")
    result = evaluate(alone, episodes=2)
    assert ONLY_THE_ID in result.note
    assert result.returns.tolist() != expected


def test_a_file_of_format_1_takes_nothing_from_the_run_of_another_environment(
    tmp_path: Path,
) -> None:
    alone = copied(FORMAT_1 / "policy.onnx", tmp_path / "policy.onnx")
    (tmp_path / "config.yaml").write_text("env_id: CartPole-v1\nenv_kwargs: {g: 2.0}\n")
    assert ONLY_THE_ID in evaluate(alone, episodes=1).note


@pytest.mark.parametrize("part", ["", "best"])
def test_an_exported_file_plays_the_same_in_its_run_and_on_its_own(
    part: str, run: Path, tmp_path: Path, expected: Any
) -> None:
    alone = copied(run / part / "policy.onnx", tmp_path / "robot.onnx")
    for file in (run / part, alone):
        result = evaluate(file, episodes=2)
        assert result.note == ""
        assert result.returns.tolist() == expected


def test_an_exported_file_ignores_the_configuration_of_another_run(
    run: Path, tmp_path: Path, expected: Any
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.yaml").write_text("env_id: Pendulum-v1\nenv_kwargs: {g: 9.0}\n")
    assert returns_of(copied(run / "policy.onnx", other)) == expected


def test_an_exported_file_next_to_another_policy_is_refused(run: Path, tmp_path: Path) -> None:
    copied(run / "policy.onnx", tmp_path)
    (tmp_path / "policy.zip").write_bytes(b"another")
    with pytest.raises(ModelDirError, match=r"not exported from the policy\.zip next to it"):
        evaluate(tmp_path)


def test_the_id_that_the_user_names_keeps_arguments_and_wrappers(
    run: Path, tmp_path: Path, expected: Any
) -> None:
    alone = copied(run / "policy.onnx", tmp_path)
    for model in (run, alone):
        assert returns_of(model, env_id="Pendulum-v1") == expected
    assert returns_of(run, env_id="Pendulum-v1", backend="torch") == expected


def test_an_environment_that_does_not_fit_is_refused(run: Path) -> None:
    for backend in ("onnx", "torch"):
        with pytest.raises(EnvError, match="cannot be made"):
            returns_of(run, env_id="CartPole-v1", backend=backend)


def test_a_policy_without_environment_asks_for_it(tmp_path: Path) -> None:
    make_model().save(tmp_path / "policy.zip")
    export_policy(find_run(tmp_path), tmp_path / "policy.onnx", verify=False)
    for backend in ("onnx", "torch"):
        with pytest.raises(EnvError, match="is unknown; name it with --env ID"):
            returns_of(tmp_path, backend=backend)


def test_wrappers_with_arguments_are_made_again(tmp_path: Path) -> None:
    long = write_policy(
        tmp_path / "long.onnx", box(3), TORQUE, environment=EnvironmentSpec("Pendulum-v1")
    )
    short = write_policy(
        tmp_path / "short.onnx",
        box(3),
        TORQUE,
        environment=EnvironmentSpec("Pendulum-v1", wrappers=(SHORT,)),
    )
    worst_reward = -(np.pi**2 + 0.1 * 8**2 + 0.001 * 2**2)
    assert min(returns_of(short)) >= 3 * worst_reward
    assert returns_of(short) != returns_of(long)


def test_frames_are_stacked_by_the_file_or_by_the_environment(tmp_path: Path) -> None:
    """The same policy: once the file stacks two frames, once it takes a stack of two."""
    stacked = EnvironmentSpec("Pendulum-v1", {"g": 2.0}, frame_stack=2)
    inside = write_policy(tmp_path / "in.onnx", box(3), TORQUE, frames=2, environment=stacked)
    outside = write_policy(tmp_path / "out.onnx", box(6), TORQUE, environment=stacked)
    # Batches of two are summed in the same order by both.
    np.testing.assert_allclose(returns_of(inside), returns_of(outside), rtol=1e-4)


def test_an_argument_that_the_file_cannot_hold_is_not_dropped_silently(tmp_path: Path) -> None:
    environment = EnvironmentSpec("Pendulum-v1", unrecorded=("callback",))
    file = write_policy(tmp_path / "policy.onnx", box(3), TORQUE, environment=environment)
    with pytest.raises(EnvError, match="was made with callback, which the file cannot hold"):
        evaluate(file)
    played = evaluate(file, env_id="Pendulum-v1", episodes=1)
    assert played.note == "played without callback, which the file cannot hold"


def test_a_model_in_memory_records_arguments_and_wrappers(tmp_path: Path) -> None:
    def make() -> Any:
        inner = gymnasium.make("Pendulum-v1", g=2.0)
        return ClipReward(TimeLimit(inner, max_episode_steps=9), min_reward=-1.0)

    model = PPO("MlpPolicy", make_vec_env(make, n_envs=2), n_steps=32)
    result = export_model(model, tmp_path / "policy.onnx")
    assert result.certificate is not None
    arguments = {"g": 2.0, "max_episode_steps": 9}
    assert result.certificate.environment["kwargs"] == arguments
    recorded = OnnxPolicy(result.path).spec.environment
    assert recorded is not None
    assert recorded.arguments == arguments
    assert [wrapper.name for wrapper in recorded.wrappers] == ["gymnasium.wrappers:ClipReward"]
    assert recorded.unrecorded == ()
    returns = returns_of(result.path)
    assert min(returns) >= -9.0  # nine steps of at least -1


# A file of unknown origin chooses names; none of them may be imported.


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (EnvironmentSpec("evil:Evil-v0"), "name it with --env evil:Evil-v0"),
        (
            EnvironmentSpec("Pendulum-v1", wrappers=(SHORT, WrapperSpec("evil:Doubled"))),
            "--allow-import evil:Doubled",
        ),
        (EnvironmentSpec("GymV26Environment-v0", {"env_id": "evil:Evil-v0"}), "names a module"),
        (
            EnvironmentSpec(
                "Pendulum-v1",
                wrappers=(WrapperSpec("gymnasium.wrappers:RecordVideo", {"video_folder": "x"}),),
            ),
            "RecordVideo",
        ),
    ],
)
def test_a_file_imports_nothing_that_the_user_has_not_allowed(
    environment: EnvironmentSpec, says: str, evil: Path
) -> None:
    file = write_policy(evil.with_name("policy.onnx"), box(3), TORQUE, environment=environment)
    with pytest.raises(EnvError, match=says):
        evaluate(file)
    assert not evil.exists()


def test_the_user_can_allow_a_module_by_naming_it(evil: Path) -> None:
    named = EnvironmentSpec("evil:Evil-v0", wrappers=(WrapperSpec("evil:Doubled"),))
    file = write_policy(evil.with_name("policy.onnx"), box(3), TORQUE, environment=named)
    for env_id in ("Pendulum-v1", "evil:Evil-v0"):
        with pytest.raises(EnvError, match="--allow-import evil:Doubled"):
            evaluate(file, env_id=env_id)
    assert not evil.exists()
    bare = write_policy(
        evil.with_name("bare.onnx"), box(3), TORQUE, environment=EnvironmentSpec("evil:Evil-v0")
    )
    without = evaluate(bare, env_id="evil:Evil-v0", episodes=1)
    assert evil.exists()
    doubled = evaluate(file, env_id="evil:Evil-v0", allow_import=("evil:Doubled",), episodes=1)
    assert doubled.note == ""
    assert not np.allclose(doubled.returns, without.returns)


def test_an_id_that_the_user_names_has_the_same_wrappers_in_the_run_and_on_its_own(
    evil: Path,
) -> None:
    """Wrappers of the user's own are imported in the run's folder; alone, after permission."""
    environment = EnvironmentSpec("Pendulum-v1", wrappers=(WrapperSpec("evil:Doubled"),))
    run = evil.with_name("run")
    run.mkdir()
    (run / "config.yaml").write_text("env_id: Pendulum-v1\nenv_wrapper: evil.Doubled\n")
    in_run = write_policy(run / "policy.onnx", box(3), TORQUE, environment=environment)
    alone = copied(in_run, evil.with_name("robot.onnx"))
    with pytest.raises(EnvError, match="--allow-import evil:Doubled"):
        evaluate(alone, env_id="Pendulum-v1")
    allowed = returns_of(alone, env_id="Pendulum-v1", allow_import=("evil:Doubled",))
    assert returns_of(in_run, env_id="Pendulum-v1") == allowed


def test_a_run_of_the_users_own_imports_what_its_training_imported(evil: Path) -> None:
    config = "env_id: evil:Evil-v0\nenv_wrapper: evil.Doubled\n"
    evil.with_name("config.yaml").write_text(config)
    environment = EnvironmentSpec("evil:Evil-v0", wrappers=(WrapperSpec("evil:Doubled"),))
    file = write_policy(evil.with_name("policy.onnx"), box(3), TORQUE, environment=environment)
    assert evaluate(file, episodes=1).note == ""


def test_a_run_vouches_for_its_own_names_only(evil: Path) -> None:
    evil.with_name("config.yaml").write_text("env_id: Pendulum-v1\n")
    environment = EnvironmentSpec("Pendulum-v1", wrappers=(WrapperSpec("evil:Doubled"),))
    file = write_policy(evil.with_name("policy.onnx"), box(3), TORQUE, environment=environment)
    with pytest.raises(EnvError, match="--allow-import evil:Doubled"):
        evaluate(file)
    assert not evil.exists()


def test_a_run_of_rl_zoo_imports_known_wrappers_only(evil: Path) -> None:
    folder = evil.with_name("CartPole-v1_1")
    inner = folder / "CartPole-v1"
    inner.mkdir(parents=True)
    model = make_model(spaces.Box(-np.inf, np.inf, (4,), np.float32), spaces.Discrete(2))
    model.save(folder / "CartPole-v1.zip")
    (inner / "config.yml").write_text("env_wrapper: evil.Doubled\n")
    with pytest.raises(EnvError, match="--allow-import evil:Doubled"):
        evaluate(folder, backend="torch")
    exported = export_policy(find_run(folder), folder / "CartPole-v1.onnx")
    assert exported.certificate is not None
    assert "evil:Doubled" in exported.certificate.environment["note"]
    with pytest.raises(EnvError, match="--allow-import evil:Doubled"):
        evaluate(exported.path)
    assert not evil.exists()
    allowed = SourceOptions(allow_import=("evil:Doubled",))
    export_policy(find_run(folder), folder / "CartPole-v1.onnx", reading=allowed)
    assert evil.exists()
    played = [
        returns_of(model, backend=backend, allow_import=("evil:Doubled",))
        for model, backend in ((folder, "torch"), (exported.path, "onnx"))
    ]
    assert played[0] == played[1]
