"""The environment in a spec: every value comes back, and format 1 is still read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.spec.test_policy_spec import SPACES, spec_of
from trpo_deploy.errors import PolicyFileError
from trpo_deploy.spec.environment import EnvironmentSpec, WrapperSpec
from trpo_deploy.spec.policy_spec import METADATA_KEY, PolicySpec

FORMAT_1 = Path(__file__).parents[1] / "fixtures" / "format-1"
FULL = EnvironmentSpec(
    "Hopper-v5",
    {"healthy_z_range": [0.7, math.inf], "terminate_when_unhealthy": False},
    (WrapperSpec("gymnasium.wrappers:TimeLimit", {"max_episode_steps": 7}),),
    frame_stack=4,
    unrecorded=("camera",),
)


def text_of_format_1() -> str:
    model = onnx.load(FORMAT_1 / "policy.onnx")
    return next(item.value for item in model.metadata_props if item.key == METADATA_KEY)


@pytest.mark.parametrize("environment", [None, EnvironmentSpec("CartPole-v1"), FULL])
def test_json_keeps_the_environment(environment: EnvironmentSpec | None) -> None:
    text = spec_of(SPACES["box"], environment=environment).to_json()
    read = PolicySpec.from_json(text)
    assert read.environment == environment
    assert read.env_id == (environment and environment.id)
    assert json.loads(text)["env_id"] == read.env_id


def test_format_1_has_the_id_only_and_is_written_as_format_2() -> None:
    read = PolicySpec.from_json(text_of_format_1())
    assert read.environment == EnvironmentSpec("Pendulum-v1", unrecorded=None)
    assert read.states
    again = read.to_json()
    assert json.loads(again)["format_version"] == 2
    assert PolicySpec.from_json(again).environment == read.environment


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": 3},
        {"arguments": []},
        {"arguments": "g=2"},
        {"wrappers": [{"name": "a:B"}]},
        {"wrappers": [{"name": None, "arguments": {}}]},
        {"wrappers": "a:B"},
        {"frame_stack": "4"},
        {"unrecorded": [1]},
    ],
)
def test_an_environment_of_wrong_types_is_refused(change: dict[str, Any]) -> None:
    value = json.loads(spec_of(SPACES["box"], environment=FULL).to_json())
    value["environment"] |= change
    with pytest.raises(PolicyFileError, match="cannot be read"):
        PolicySpec.from_json(json.dumps(value))


def test_the_text_of_an_environment_names_all_of_it() -> None:
    assert str(EnvironmentSpec("CartPole-v1")) == "CartPole-v1"
    assert str(FULL) == (
        "Hopper-v5(healthy_z_range=[0.7, inf], terminate_when_unhealthy=False) in "
        "gymnasium.wrappers:TimeLimit(max_episode_steps=7), 4 frames stacked, "
        "not recorded: camera"
    )
