"""Benchmarks with the same folder divide its runs; what a killed one began is continued."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.command import COMMAND
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.yaml import to_yaml
from trpo_deploy.train.config.load import load_config
from trpo_deploy.train.run.benchmark import runs as module
from trpo_deploy.train.run.benchmark.results import evaluated_timesteps
from trpo_deploy.train.run.benchmark.runner import benchmark
from trpo_deploy.train.run.jobs import loop

LIMIT_S = 600.0
"""Generous: a machine may be busy."""


class StandIn:
    """A run that takes a moment, and writes its evaluation before it ends."""

    started: list[str]

    def __init__(self, env_id: str, folder: ModelDir, options: list[str]) -> None:
        self.folder = folder
        self.error = ""
        self._env_id = env_id
        self._options = options
        self._looks = 0

    def poll(self) -> int | None:
        self._looks += 1
        if self._looks == 1:
            StandIn.started.append(self.folder.root.name)
        if self._looks == 10:
            self.folder.root.mkdir(parents=True)
            seed = int(self.folder.root.name.removeprefix("seed-"))
            config = load_config(self._env_id, n_timesteps=100, seed=seed, eval_every=50_000)
            # As a run does: the other benchmark may read it at any time.
            atomic_write(self.folder.config, to_yaml(config.to_dict()))
            results = np.full((2, 3), float(seed))
            np.savez(self.folder.evaluations, timesteps=[0, 100], results=results)
        return 0 if self._looks == 20 else None

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_each_run_is_trained_by_one_of_them_and_both_have_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TrainProcess", StandIn)
    monkeypatch.setattr(StandIn, "started", [], raising=False)
    monkeypatch.setattr(loop, "POLL_S", 0.001)
    monkeypatch.setattr(loop, "_LOOK_S", 0.01)
    lines: dict[str, list[str]] = {"one": [], "other": []}
    threads = [
        threading.Thread(
            target=benchmark, args=(["CartPole-v1"], 6, 100, tmp_path, 2, lines[name].append)
        )
        for name in lines
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    names = [f"seed-{seed}" for seed in range(200, 206)]
    assert sorted(StandIn.started) == names
    results = {f"CartPole-v1 seed {seed}: {seed}.0" for seed in range(200, 206)}
    for reported in lines.values():
        assert results <= set(reported)
        others = set(reported) - results
        assert all("waiting for other processes" in line or "training" in line for line in others)
    begun = [
        line for reported in lines.values() for line in reported if line.endswith(": training")
    ]
    assert sorted(begun) == sorted(
        f"CartPole-v1 {name.replace('-', ' ')}: training" for name in names
    )
    assert "| CartPole-v1 | 6 |" in (tmp_path / "table.md").read_text()
    assert not list((tmp_path / ".leases").iterdir())


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT_S)
def test_a_benchmark_continues_the_run_of_a_killed_one(tmp_path: Path) -> None:
    setting = ("--set", "policy_kwargs.net_arch=[4]", "--set", "n_steps=64", "--set", "n_envs=1")
    words = ("benchmark", "--env", "CartPole-v1", "--seeds", "1", "-n", "4096", "-o", str(tmp_path))
    run = ModelDir(tmp_path / "runs" / "CartPole-v1" / "seed-200")
    first = subprocess.Popen([*COMMAND, *words, *setting], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + LIMIT_S
        while not (run.progress.is_file() and len(run.progress.read_text().splitlines()) > 3):
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        first.kill()
        first.wait()
    begun = run.progress.read_text().splitlines()[:3]
    done = subprocess.run(
        [*COMMAND, *words, *setting], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    assert "| CartPole-v1 | 1 |" in done.stdout
    assert evaluated_timesteps(run) == 4096
    # Its columns of times would be others if the run had begun again.
    assert run.progress.read_text().splitlines()[:3] == begun
