"""The JavaScript of every kind of policy gives onnxruntime's actions in Node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.export.targets.programs import KINDS
from tests.export.targets.web.folders import run_module, tool, write_folder
from trpo_deploy.export.targets.agreement import TOLERANCE

NESTED_ROWS = """
const golden = JSON.parse(readFileSync("golden.json", "utf8"));
policy.reset();
result = { selfTest: policy.selfTest(), error: 0 };
golden.observations.forEach((observation, row) => {
  const action = policy.act(observation);
  const shape = (value) => JSON.stringify(value).replace(/[^[\\],]+/g, "");
  if (shape(action) !== shape(golden.actions[row])) throw new Error("another shape");
  const expected = [golden.actions[row]].flat(Infinity);
  [action].flat(Infinity).forEach((number, i) => {
    if (typeof number !== "number") throw new TypeError(typeof number);
    result.error = Math.max(result.error, Math.abs(number - expected[i]));
  });
});
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_policy_is_right_in_node(kind: str, tmp_path: Path) -> None:
    tool("node")
    folder = write_folder(tmp_path, verify=True, **KINDS[kind])
    found = run_module(folder, NESTED_ROWS)
    action_space = json.loads((folder / "policy.json").read_text())["spec"]["action_space"]
    limit = TOLERANCE if action_space["kind"] == "box" else 0
    assert found["selfTest"] <= limit
    assert found["error"] <= 3 * limit  # no bounded action here has a range of more than 2.5
