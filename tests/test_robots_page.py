"""The commands and the code of docs/robots.md run, and what it shows of Ant-v5 is true."""

from __future__ import annotations

import re
import shlex
import shutil
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.command import run_cli
from trpo_deploy import OnnxPolicy
from trpo_deploy.runtime import Controller
from trpo_deploy.runtime.faults import CAUSES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "robots.md").read_text()


class Robot:
    """Ant-v5 behind a driver with orders of its own, which is on for ten steps."""

    def __init__(self, onnx: Path) -> None:
        spec = OnnxPolicy(onnx).spec
        rng = np.random.default_rng(0)
        observed = [each.name for each in spec.observation_components["obs"]]
        moved = [each.name for each in spec.action_components]
        self._sensors, self._motors = rng.permutation(len(observed)), rng.permutation(len(moved))
        self.sensor_names = [observed[index] for index in self._sensors]
        self.motor_names = [moved[index] for index in self._motors]
        self._env = gymnasium.make("Ant-v5")
        self._observation, _ = self._env.reset(seed=0)
        self.sent: list[np.ndarray[Any, Any]] = []

    def is_on(self) -> bool:
        return len(self.sent) < 10

    def read(self) -> tuple[np.ndarray[Any, Any], float]:
        return self._observation[self._sensors], time.monotonic()

    def send(self, torques: np.ndarray[Any, Any]) -> None:
        self.sent.append(torques)
        action = np.empty(len(torques), np.float32)
        action[self._motors] = torques / 150
        self._observation, *_ = self._env.step(action)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models, in which the page's commands were run."""
    folder = tmp_path_factory.mktemp("robot")
    for name in ("Ant-v5", "Hopper-v5"):
        shutil.copytree(ROOT / "models" / name, folder / "models" / name)
    for block in re.findall(r"^```\n(trpo-deploy .*?)```", PAGE, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            words = shlex.split(line)[1:]
            # A certificate of Ant-v5 takes a minute; other tests issue certificates.
            options = ["--no-verify"] if words[0] == "export" else []
            run = run_cli(*words, *options, cwd=folder)
            assert run.code == 0, (line, run.error)
    return folder


def test_the_code_of_the_page_runs_in_its_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    robot = Robot(folder / "ant" / "policy.onnx")
    names: dict[str, Any] = {"robot": robot}
    monkeypatch.chdir(folder)
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(code, names)
    controller = names["controller"]
    assert isinstance(controller, Controller)
    assert controller.stats.calls == len(robot.sent) == 10
    # The machine of a test may be late; nothing else is wrong.
    faults = {cause for cause, count in controller.stats.faults.items() if count}
    assert faults <= {"late", "stale"}
    assert "10 calls, " in capsys.readouterr().out
    assert f"`order` is `{names['order']}`" in PAGE


def test_the_page_shows_what_the_file_tells(folder: Path) -> None:
    spec = OnnxPolicy(folder / "ant" / "policy.onnx").spec
    assert spec.period == 0.05
    assert {each.unit for each in spec.action_components} == {"150 N m"}
    observed = [each.name for each in spec.observation_components["obs"]]
    for index, name in re.findall(r"^    (\d+) +(\w+\.position(?:\.z)?) ", PAGE, re.MULTILINE):
        assert observed[int(index)] == name


def test_the_page_quotes_a_fault_as_it_is(folder: Path) -> None:
    policy = OnnxPolicy(folder / "ant" / "policy.onnx")
    controller = Controller(policy, period=0.05, safe_action=0.0)
    assert policy.spec.normalizer is not None
    observation = policy.spec.normalizer.mean["obs"].copy()
    names = [each.name for each in policy.spec.observation_components["obs"]]
    observation[names.index("hip_1.position")] = 1e30
    controller.act(observation)
    assert controller.last_fault is not None
    quoted = controller.last_fault.text.partition(": ")[2]
    assert f"`{quoted}`" in " ".join(PAGE.split())


def test_the_page_explains_every_cause() -> None:
    explained = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert explained == list(CAUSES)
