"""docs/robots.md runs with a robot in place of the reader's, and tells the truth about Ant-v5."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of
from tests.docs.robot import Robot
from tests.docs.terminal import ROOT, Terminal
from trpo_deploy import OnnxPolicy
from trpo_deploy.runtime import Controller
from trpo_deploy.runtime.faults import CAUSES

PAGE = ROOT / "docs" / "robots.md"
TEXT = PAGE.read_text()
ANT = ROOT / "models" / "Ant-v5" / "policy.onnx"


@pytest.mark.slow
def test_the_page_moves_a_robot(tmp_path: Path, commands: Path) -> None:
    robot, trained = Robot(ANT), tmp_path / "trained"
    with closing(Terminal(tmp_path, trained, {"robot": robot}, commands)) as terminal:
        terminal.run_all(blocks_of(PAGE))
        controller, order = terminal.names["controller"], terminal.names["order"]
    assert isinstance(controller, Controller)
    assert controller.stats.calls == len(robot.sent) == 10
    # The machine of a test may be late; nothing else is wrong.
    faults = {cause for cause, count in controller.stats.faults.items() if count}
    assert faults <= {"late", "stale"}
    assert f"`order` is `{order}`" in TEXT


def test_the_page_shows_what_the_file_tells() -> None:
    spec = OnnxPolicy(ANT).spec
    assert spec.period == 0.05
    assert {each.unit for each in spec.action_components} == {"150 N m"}
    observed = [each.name for each in spec.observation_components["obs"]]
    for index, name in re.findall(r"^    (\d+) +(\w+\.position(?:\.z)?) ", TEXT, re.MULTILINE):
        assert observed[int(index)] == name


def test_the_page_quotes_a_fault_as_it_is() -> None:
    policy = OnnxPolicy(ANT)
    controller = Controller(policy, period=0.05, safe_action=0.0)
    assert policy.spec.normalizer is not None
    observation = policy.spec.normalizer.mean["obs"].copy()
    names = [each.name for each in policy.spec.observation_components["obs"]]
    observation[names.index("hip_1.position")] = 1e30
    controller.act(observation)
    assert controller.last_fault is not None
    quoted = controller.last_fault.text.partition(": ")[2]
    assert f"`{quoted}`" in " ".join(TEXT.split())


def test_the_page_explains_every_cause() -> None:
    explained = re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)
    assert explained == list(CAUSES)
