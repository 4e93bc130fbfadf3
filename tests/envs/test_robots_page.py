"""The example of docs/robots.md runs, and says the truth about Ant-v5."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from trpo_deploy.export import export_policy
from trpo_deploy.files.runs import find_run

ROOT = Path(__file__).parents[2]


def test_the_example_maps_the_actions_of_ant_by_name(tmp_path: Path) -> None:
    onnx = tmp_path / "policy.onnx"
    export_policy(find_run(ROOT / "models" / "Ant-v5"), onnx, verify=False)
    page = (ROOT / "docs" / "robots.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    assert "models/Ant-v5/policy.onnx" in code
    values: dict[str, Any] = {}
    exec(code.replace("models/Ant-v5/policy.onnx", str(onnx)), values)
    assert f"`order` is `{values['order']}`" in page
    spec = values["policy"].spec
    assert spec.period == 0.05
    assert {each.unit for each in spec.action_components} == {"150 N m"}
    observed = [each.name for each in spec.observation_components["obs"]]
    for index, name in re.findall(r"^    (\d+) +(\w+\.position(?:\.z)?) ", page, re.MULTILINE):
        assert observed[int(index)] == name
