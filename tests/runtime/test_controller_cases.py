"""The controller does, call by call, what the table of cases says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.control_policy import numbers, write_linear_policy
from trpo_deploy.runtime import Controller, OnnxPolicy

TABLE = json.loads(Path(__file__).with_name("controller_cases.json").read_text())


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> OnnxPolicy:
    path = tmp_path_factory.mktemp("cases") / "policy.onnx"
    return OnnxPolicy(write_linear_policy(path, TABLE["policy"]))


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["name"])
def test_each_call_gives_the_action_and_counts_the_fault_of_the_table(
    policy: OnnxPolicy, case: dict[str, Any]
) -> None:
    clock, expected = Clock(), dict.fromkeys(Controller(policy, period=0.125).stats.faults, 0)
    controller = Controller(policy, period=0.125, clock=clock, **case["settings"])
    calls = [step for step in case["steps"] if "now" in step]
    for step in case["steps"]:
        if "reset" in step:
            controller.reset(step["reset"])
            continue
        clock.now = float(step["now"])
        stamp = float(step["stamp"]) if "stamp" in step else None
        action = controller.act(numbers(step["observation"], "float64"), stamp)
        # Sums of a few float32 numbers of at most 4.
        np.testing.assert_allclose(action, step["action"], rtol=0, atol=1e-6, err_msg=str(step))
        if "fault" in step:
            expected[step["fault"]] += 1
            assert controller.last_fault is not None
        assert controller.stats.faults == expected, step
    assert controller.stats.calls == len(calls)


def test_the_table_has_every_fault_that_an_observation_can_have() -> None:
    found = {step.get("fault") for case in TABLE["cases"] for step in case["steps"]}
    assert found == {None, "late", "stale", "not_finite", "out_of_range"}
