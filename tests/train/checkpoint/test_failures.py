"""A run that fails or is killed loses at most one rollout, and can be resumed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gymnasium import spaces

from tests.train.checkpoint.runs import (
    assert_same_run,
    checkpoint_of,
    contents,
    short_config,
    train_interrupted,
)
from tests.train.environments import RandomEnv
from tests.train.registration import register
from trpo_deploy.errors import EnvError, ModelDirError
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.sb3.policy_zip import read_policy_zip
from trpo_deploy.train import train

pytestmark = pytest.mark.usefixtures("undrawn_curves")


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    whole, parts = ModelDir(tmp_path / "whole"), ModelDir(tmp_path / "parts")
    config = short_config("CartPole-v1")
    train(config, whole)
    write_bytes = Path.write_bytes

    filled = False

    def full(path: Path, data: Any) -> int:
        nonlocal filled
        filled |= path.name.startswith(".progress.csv") and parts.checkpoint.is_file()
        if filled:
            write_bytes(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(ModelDirError, match="No space left on device"):
            train(config, parts)
    assert not list(parts.root.rglob("*.tmp"))
    assert checkpoint_of(parts).timesteps == 256
    train(config, parts, resume=True)
    assert_same_run(whole, parts)


class Breaking(RandomEnv):
    """Fails after a number of steps."""

    def __init__(self, after: int) -> None:
        super().__init__(spaces.Discrete(2))
        self.left = after

    def step(self, action: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("out of steam")
        return super().step(action)


def test_a_failing_environment_costs_one_rollout(tmp_path: Path) -> None:
    register("Breaking-v0", Breaking)
    folder = ModelDir(tmp_path / "m")
    with pytest.raises(EnvError, match=r"Breaking-v0: environment 0 of 1 .* step 300: .*steam"):
        train(short_config("Breaking-v0", env_args=["after=299"]), folder)
    assert (
        checkpoint_of(folder).timesteps == read_policy_zip(folder.policy_zip).num_timesteps == 256
    )


def test_an_environment_that_fails_at_once_leaves_no_folder(tmp_path: Path) -> None:
    register("Broken-v0", Broken)
    with pytest.raises(EnvError, match="reset"):
        train(short_config("Broken-v0"), ModelDir(tmp_path / "m"))
    assert not (tmp_path / "m").exists()


def test_a_resume_that_fails_at_once_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register("Mended-v0", Mended)
    whole, parts = ModelDir(tmp_path / "whole"), ModelDir(tmp_path / "parts")
    config = short_config("Mended-v0")
    train(config, whole)
    train_interrupted(config, parts, update=4)
    with monkeypatch.context() as patch:
        patch.setattr(Mended, "reset", Broken.reset)
        with pytest.raises(EnvError, match="reset"):
            train(config, parts, resume=True)
    train(config, parts, resume=True)
    assert_same_run(whole, parts)


def test_a_disk_that_is_full_at_a_resume_removes_no_file(tmp_path: Path) -> None:
    folder, config = ModelDir(tmp_path / "m"), short_config("CartPole-v1")
    train(config, folder)
    before = contents(folder).keys()

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(ModelDirError, match="No space left on device"):
            train(replace(config, n_timesteps=3000), folder, resume=True)
    assert contents(folder).keys() == before


class Broken(RandomEnv):
    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))

    def reset(self, **_: Any) -> Any:
        raise RuntimeError("no")


class Mended(RandomEnv):
    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))


# One process imports everything once and forks a child for each part of the run. A child is killed
# at a given write, before or after the new file takes its name, or after a random delay.
LIVES = """
import gc, importlib, os, random, signal, sys, time
from pathlib import Path
import torch
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train import load_config, train

torch.set_num_threads(1)
# What a training imports late takes longer than the training.
for late in ("onnx", "onnxruntime", "torch._dynamo", "trpo_deploy.train.run.plots"):
    importlib.import_module(late)
gc.freeze()
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
def test_a_run_killed_at_any_write_resumes_to_the_same_result(tmp_path: Path) -> None:
    whole, parts = ModelDir(tmp_path / "whole"), ModelDir(tmp_path / "parts")
    command = [sys.executable, "-c", LIVES, str(whole.root), str(parts.root)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("killed at") == 14
    assert not list(parts.root.rglob("*.tmp"))
    assert_same_run(whole, parts)
