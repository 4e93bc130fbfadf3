"""Interrupted and resumed, a run is the run that was not interrupted."""

from __future__ import annotations

import csv
import errno
import io
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from tests.train.environments import RandomEnv
from trpo_deploy.errors import ConfigError, EnvError, ModelDirError
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.sb3.policy_zip import read_policy_zip
from trpo_deploy.train import TRPO, Reports, TrainConfig, load_config, train
from trpo_deploy.train.checkpoint.state import Checkpoint, read_checkpoint


class Interruption(BaseException):
    """Stands for Ctrl-C."""


def _config(env_id: str, *settings: str, steps: int = 1536, **flags: Any) -> TrainConfig:
    return load_config(
        env_id,
        settings=["n_steps=128", "batch_size=64", "checkpoint_every=256", *settings],
        n_timesteps=steps,
        eval_every=512,
        eval_episodes=2,
        **flags,
    )


def _interrupted(config: TrainConfig, folder: ModelDir, update: int) -> None:
    """Train until the middle of an update: the actor has moved, the critic has not."""
    update_actor = TRPO.policy_step
    updates = 0

    def interrupt(*arguments: Any) -> Any:
        nonlocal updates
        updates += 1
        done = update_actor(*arguments)
        if updates == update:
            raise Interruption
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TRPO, "policy_step", interrupt)
        with pytest.raises(Interruption):
            train(config, folder)


def _read(folder: ModelDir) -> Checkpoint:
    checkpoint = read_checkpoint(folder)
    assert checkpoint is not None
    return checkpoint


def _log(folder: ModelDir) -> list[dict[str, str]]:
    with folder.progress.open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Time passes otherwise, and all that is counted in it.
    clocks = ("fps", "elapsed")
    return [{k: v for k, v in row.items() if not k.endswith(clocks) and v} for row in rows]


def _assert_same_run(one: ModelDir, other: ModelDir) -> None:
    first, second = _read(one), _read(other)
    assert first.timesteps == second.timesteps
    torch.testing.assert_close(first.learner, second.learner, rtol=0, atol=0)
    for name in ("last_obs", "last_episode_starts"):
        np.testing.assert_equal(first.course[name], second.course[name])
    assert _log(one) == _log(other)
    with np.load(one.evaluations) as ours, np.load(other.evaluations) as theirs:
        for name in ours.files:
            np.testing.assert_array_equal(ours[name], theirs[name])
    for pair in ((one, other), (one.best, other.best)):
        ours_, theirs_ = (read_policy_zip(each.policy_zip).build_policy() for each in pair)
        torch.testing.assert_close(ours_.state_dict(), theirs_.state_dict(), rtol=0, atol=0)
    assert one.learning_curve.read_bytes() == other.learning_curve.read_bytes()


@pytest.mark.parametrize(
    ("env_id", "settings", "flags"),
    [
        ("CartPole-v1", (), {}),
        ("CartPole-v1", ("normalize=true",), {}),
        ("CartPole-v1", ("learning_rate=lin_0.002", "scale_returns=true"), {"vec_env": "subproc"}),
        ("Pendulum-v1", ("normalize=true",), {}),  # with gSDE, in the middle of episodes
        ("Pendulum-v1", ("use_sde=true", "sde_sample_freq=-1"), {}),
        ("HalfCheetah-v5", (), {}),
        ("Keys-v0", ("policy=MultiInputPolicy", "normalize={norm_obs_keys: [speed]}"), {}),
        ("Pictures-v0", ("policy=CnnPolicy", "n_steps=32", "batch_size=32"), {"steps": 192}),
        ("Grey-v0", ("policy=CnnPolicy", "n_steps=32", "batch_size=32"), {"steps": 192}),
    ],
)
def test_a_resumed_run_is_the_one_that_was_not_interrupted(
    env_id: str, settings: tuple[str, ...], flags: dict[str, Any], tmp_path: Path
) -> None:
    if env_id == "HalfCheetah-v5":
        pytest.importorskip("mujoco")
    config = _config(env_id, *settings, **flags)
    whole, parts = ModelDir(tmp_path / "whole"), ModelDir(tmp_path / "parts")
    train(config, whole)
    _interrupted(config, parts, update=4)
    random.seed()  # nothing that happens between may matter
    np.random.seed()
    torch.seed()
    train(config, parts, resume=True)
    _assert_same_run(whole, parts)


class Keys(RandomEnv):
    """Observations with keys, and spaces that SB3 sees otherwise than the environment has them."""

    def __init__(self) -> None:
        keys = {"speed": spaces.Box(-1, 1, (2,)), "lamp": spaces.Discrete(3, start=1)}
        super().__init__(spaces.Discrete(2, start=5), spaces.Dict(keys))


class Pictures(RandomEnv):
    """Pictures with the channels last, which SB3 turns around."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__(spaces.Discrete(2), spaces.Box(0, 255, (36, 36, channels), np.uint8))


gymnasium.register("Keys-v0", entry_point=Keys, disable_env_checker=True)
gymnasium.register("Pictures-v0", entry_point=Pictures, disable_env_checker=True)
gymnasium.register(
    "Grey-v0", entry_point=Pictures, kwargs={"channels": 1}, disable_env_checker=True
)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_a_finished_run_goes_on(env_id: str, tmp_path: Path) -> None:
    # With CartPole's own a longer run has another trust region from the beginning on.
    settings = ("learning_rate=0.002", "target_kl_end=null")
    whole, parts = ModelDir(tmp_path / "whole"), ModelDir(tmp_path / "parts")
    train(_config(env_id, *settings, steps=1536), whole)
    train(_config(env_id, *settings, steps=768), parts)
    train(_config(env_id, *settings, steps=1536), parts, resume=True)
    torch.testing.assert_close(_read(whole).learner, _read(parts).learner, rtol=0, atol=0)


def test_resuming_a_run_that_is_done_changes_nothing(tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "m")
    config = _config("CartPole-v1", steps=512)
    first = train(config, folder)
    before = _log(folder)
    again = train(config, folder, resume=True)
    assert (again.timesteps, again.last, again.best) == (512, first.last, first.best)
    assert _log(folder) == before


def test_after_an_interruption_the_policy_is_the_checkpoints(tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "m")
    _interrupted(_config("CartPole-v1", "normalize=true"), folder, update=3)
    checkpoint = _read(folder)
    assert checkpoint.timesteps == 512
    policy = read_policy_zip(folder.policy_zip)
    assert policy.num_timesteps == 512
    kept = checkpoint.learner["policy"]
    torch.testing.assert_close(dict(policy.build_policy().state_dict()), kept, rtol=0, atol=0)


class Opaque(RandomEnv):
    """Holds state that cannot be seen."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))
        self.world = object()


def test_an_environment_that_hides_its_state_starts_new_episodes(tmp_path: Path) -> None:
    gymnasium.register("Opaque-v0", entry_point=Opaque, disable_env_checker=True)
    folder, notes = ModelDir(tmp_path / "m"), list[str]()
    config = _config("Opaque-v0", "normalize=true")
    _interrupted(config, folder, update=4)
    result = train(config, folder, resume=True, reports=Reports(note=notes.append))
    assert result.timesteps == 1536
    assert len(notes) == 1
    assert "Opaque-v0 does not tell where it stands" in notes[0]


# --- what cannot be resumed is refused, and stays as it was -----------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> ModelDir:
    folder = ModelDir(tmp_path_factory.mktemp("models") / "m")
    _interrupted(_config("CartPole-v1"), folder, update=3)
    return folder


@pytest.mark.parametrize(
    ("env_id", "settings", "flags", "says"),
    [
        ("Acrobot-v1", (), {}, "env_id='CartPole-v1', not 'Acrobot-v1'"),
        ("CartPole-v1", ("gamma=0.9",), {}, "gamma=0.99, not 0.9"),
        ("CartPole-v1", (), {"n_envs": 3}, "n_envs=2, not 3"),
        ("CartPole-v1", (), {"seed": 1}, "seed=0, not 1"),
        ("CartPole-v1", ("normalize=true",), {}, "normalize=False, not True"),
        ("CartPole-v1", ("policy_kwargs={net_arch: [8]}",), {}, "policy_kwargs=None, not "),
    ],
)
def test_another_run_is_not_resumed(
    env_id: str, settings: tuple[str, ...], flags: dict[str, Any], says: str, stopped: ModelDir
) -> None:
    before = {path: path.read_bytes() for path in stopped.root.rglob("*") if path.is_file()}
    preset = {} if env_id == "CartPole-v1" else {"preset": "CartPole-v1"}
    with pytest.raises(ConfigError, match=says):
        train(_config(env_id, *settings, **preset, **flags), stopped, resume=True)
    assert before == {path: path.read_bytes() for path in stopped.root.rglob("*") if path.is_file()}


class Unknown(RandomEnv):
    """Takes an argument that may be unknown."""

    def __init__(self, mass: float) -> None:
        super().__init__(spaces.Discrete(2))
        self.mass = mass


gymnasium.register("Unknown-v0", entry_point=Unknown, disable_env_checker=True)


def test_an_argument_that_is_nan_is_the_same_again(tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "m")
    _interrupted(_config("Unknown-v0", env_args=["mass=.nan"]), folder, update=2)
    result = train(_config("Unknown-v0", env_args=["mass=.nan"]), folder, resume=True)
    assert result.timesteps == 1536
    with pytest.raises(ConfigError, match=r"env_kwargs=\{'mass': nan\}, not \{'mass': 1.0\}"):
        train(_config("Unknown-v0", env_args=["mass=1.0"]), folder, resume=True)


class Resized(RandomEnv):
    """Has another observation space when it is made again."""

    size = 3

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2), spaces.Box(-1, 1, (self.size,)))


def test_other_spaces_are_not_resumed(tmp_path: Path) -> None:
    gymnasium.register("Resized-v0", entry_point=Resized, disable_env_checker=True)
    folder = ModelDir(tmp_path / "m")
    _interrupted(_config("Resized-v0"), folder, update=3)
    Resized.size = 4
    with pytest.raises(ConfigError, match=r"observations were Box\(.*\(3,\).* are Box\(.*\(4,\)"):
        train(_config("Resized-v0"), folder, resume=True)


def test_a_policy_without_a_checkpoint_is_kept(tmp_path: Path) -> None:
    folder = ModelDir(tmp_path)
    folder.policy_zip.write_bytes(b"precious")
    folder.config.write_text("env_id: CartPole-v1")
    with pytest.raises(ModelDirError, match="no checkpoint"):
        train(_config("CartPole-v1"), folder, resume=True)
    assert folder.policy_zip.read_bytes() == b"precious"


def _arrays(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


class Evil:
    """Would leave a trace if it were unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        _arrays(other=1),
        _arrays(structure=np.array([Evil()])),
        _arrays(structure="[1]"),
        _arrays(structure='{"kind": "dict", "items": [["format", 99]]}'),
        _arrays(structure='{"kind": "dict", "items": [["format", 1]]}'),
        _arrays(structure='{"kind": "generator", "state": {"kind": "dict", "items": []}}'),
    ],
)
def test_a_file_that_is_no_checkpoint(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = ModelDir(tmp_path / "m")
    folder.checkpoint.parent.mkdir(parents=True)
    folder.checkpoint.write_bytes(content)
    with pytest.raises(ModelDirError, match="no checkpoint that can be read"):
        train(_config("CartPole-v1"), folder, resume=True)
    assert not (tmp_path / "unpickled").exists()


def test_a_truncated_checkpoint(stopped: ModelDir, tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "m")
    folder.checkpoint.parent.mkdir(parents=True)
    folder.checkpoint.write_bytes(stopped.checkpoint.read_bytes()[:-100])
    with pytest.raises(ModelDirError, match="no checkpoint that can be read"):
        read_checkpoint(folder)


# --- a run that ends badly loses nothing ------------------------------------------------------


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    whole, parts = ModelDir(tmp_path / "whole"), ModelDir(tmp_path / "parts")
    config = _config("CartPole-v1")
    train(config, whole)
    write_bytes = Path.write_bytes

    def full(path: Path, data: Any) -> int:
        if path.name.startswith(".progress.csv") and parts.checkpoint.is_file():
            full.full = True  # type: ignore[attr-defined]
        if getattr(full, "full", False):
            write_bytes(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(ModelDirError, match="No space left on device"):
            train(config, parts)
    assert not list(parts.root.rglob("*.tmp"))
    assert _read(parts).timesteps == 256
    train(config, parts, resume=True)
    _assert_same_run(whole, parts)


class Breaking(RandomEnv):
    """Works for a while."""

    def __init__(self, after: int) -> None:
        super().__init__(spaces.Discrete(2))
        self.left = after

    def step(self, action: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("out of steam")
        return super().step(action)


def test_a_failing_environment_costs_one_rollout(tmp_path: Path) -> None:
    gymnasium.register("Breaking-v0", entry_point=Breaking, disable_env_checker=True)
    folder = ModelDir(tmp_path / "m")
    with pytest.raises(EnvError, match=r"Breaking-v0: environment 0 of 1 .* step 300: .*steam"):
        train(_config("Breaking-v0", env_args=["after=299"]), folder)
    assert _read(folder).timesteps == read_policy_zip(folder.policy_zip).num_timesteps == 256


def test_an_environment_that_fails_at_once_leaves_no_folder(tmp_path: Path) -> None:
    gymnasium.register("Broken-v0", entry_point=Broken, disable_env_checker=True)
    with pytest.raises(EnvError, match="reset"):
        train(_config("Broken-v0"), ModelDir(tmp_path / "m"))
    assert not (tmp_path / "m").exists()


def test_a_resume_that_fails_at_once_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gymnasium.register("Mended-v0", entry_point=Mended, disable_env_checker=True)
    whole, parts = ModelDir(tmp_path / "whole"), ModelDir(tmp_path / "parts")
    config = _config("Mended-v0")
    train(config, whole)
    _interrupted(config, parts, update=4)
    with monkeypatch.context() as patch:
        patch.setattr(Mended, "reset", Broken.reset)
        with pytest.raises(EnvError, match="reset"):
            train(config, parts, resume=True)
    train(config, parts, resume=True)
    _assert_same_run(whole, parts)


class Extractor(FlattenExtractor):
    """A user's own, whose code changes between two runs."""

    width = 4

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space)
        self._features_dim = self.width
        self.linear = nn.Linear(4, self.width)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.linear(super().forward(observations))


def _contents(folder: ModelDir) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}


def test_a_checkpoint_that_does_not_fit_changes_no_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ModelDir(tmp_path / "m")
    extractor = f"policy_kwargs={{features_extractor_class: {__name__}.Extractor}}"
    config = _config("CartPole-v1", extractor)
    train(config, folder)
    before = _contents(folder)
    monkeypatch.setattr(Extractor, "width", 8)
    with pytest.raises(ConfigError, match="does not fit the policy or the environment"):
        train(replace(config, n_timesteps=3000), folder, resume=True)
    kept = (folder.policy_zip, folder.checkpoint, folder.best.policy_zip)
    after = _contents(folder)
    assert all(after[str(path)] == before[str(path)] for path in kept)


def test_an_environment_that_is_made_otherwise_now_is_not_resumed(tmp_path: Path) -> None:
    folder, config = ModelDir(tmp_path / "m"), _config("Robot-v0")
    gymnasium.register("Robot-v0", entry_point=Robot, disable_env_checker=True)
    train(config, folder)
    before = _contents(folder)
    gymnasium.registry.pop("Robot-v0")
    gymnasium.register("Robot-v0", entry_point=Arm, disable_env_checker=True)
    with pytest.raises(ConfigError, match="does not fit"):
        train(replace(config, n_timesteps=3000), folder, resume=True)
    assert _contents(folder)[str(folder.policy_zip)] == before[str(folder.policy_zip)]


def test_a_disk_that_is_full_at_a_resume_costs_nothing(tmp_path: Path) -> None:
    folder, config = ModelDir(tmp_path / "m"), _config("CartPole-v1")
    train(config, folder)
    before = _contents(folder).keys()

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(ModelDirError, match="No space left on device"):
            train(replace(config, n_timesteps=3000), folder, resume=True)
    assert _contents(folder).keys() == before


class Broken(RandomEnv):
    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))

    def reset(self, **_: Any) -> Any:
        raise RuntimeError("no")


class Mended(Broken):
    reset = RandomEnv.reset


class Robot(RandomEnv):
    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))


class Arm(Robot):
    """Has the spaces of a robot, and is none."""


# One process imports everything once and lives a run in children that it forks: each is killed
# at a given write, before the new file takes its name or once it has, or after a delay.
LIVES = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train import load_config, train

torch.set_num_threads(1)
config = load_config(
    "CartPole-v1", settings=["n_steps=32", "batch_size=64", "checkpoint_every=1"],
    n_timesteps=768, eval_every=256, eval_episodes=2, normalize=True,
)
replace = Path.replace

def begin(folder, write=0, when="never"):
    child = os.fork()
    if child:
        return child
    left = write
    def counted(self, target):
        nonlocal left
        left -= 1
        if left == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(self, target)
        if left == 0 and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
    Path.replace = counted
    try:
        train(config, folder, resume=True)
        os._exit(0)
    finally:
        os._exit(1)

def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

whole, parts = ModelDir(Path(sys.argv[1])), ModelDir(Path(sys.argv[2]))
assert end(begin(whole)) == 0
# The configuration (1), the first row of the log (2), checkpoints, both files of the best pair.
kills = [(1, "before"), (1, "after"), (2, "after"), (3, "before"), (3, "after")]
kills += [(write, when) for write in (5, 8, 11) for when in ("before", "after")]
for write, when in kills:
    assert end(begin(parts, write, when)) == -signal.SIGKILL, (write, when)
    print("killed at", write, when, flush=True)
delays = random.Random(5)
for _ in range(3):
    before = parts.checkpoint.stat().st_mtime_ns
    child = begin(parts)
    while parts.checkpoint.stat().st_mtime_ns == before:
        time.sleep(0.002)
    time.sleep(delays.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    print("killed at random:", end(child), flush=True)
assert end(begin(parts)) == 0
"""


@pytest.mark.slow
def test_killed_again_and_again_a_run_comes_to_the_same_end(tmp_path: Path) -> None:
    whole, parts = ModelDir(tmp_path / "whole"), ModelDir(tmp_path / "parts")
    command = [sys.executable, "-c", LIVES, str(whole.root), str(parts.root)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("killed at") == 14
    assert not list(parts.root.rglob("*.tmp"))
    _assert_same_run(whole, parts)
