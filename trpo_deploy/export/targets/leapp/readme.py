"""The file ``README.md`` of a folder with a LEAPP description."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trpo_deploy.export.targets.games.tables import observation_tables, page, table
from trpo_deploy.export.targets.leapp.description import NODE
from trpo_deploy.spec.policy_spec import PolicySpec


def readme_text(spec: PolicySpec, value: dict[str, Any], name: str) -> str:
    """What the description says and what it leaves open.

    Args:
        spec: The policy's spec.
        value: The description.
        name: Name of the YAML file.
    """
    model = value["models"][NODE]
    return page(
        f"# {name} for LEAPP",
        f"""\
`{name}.yaml` describes `policy.onnx` in the format of LEAPP, which Isaac ROS Deploy reads. Keep
both files in one folder. `certificate.json` says how they were compared with the policy: an
emulation of LEAPP's loader reads the description, and onnxruntime runs the file. Isaac ROS Deploy
and ros2_control were not run.""",
        f"""\
```python
from leapp import InferenceManager  # pip install leapp

graph = InferenceManager("{name}.yaml")
action = graph(inputs)["{NODE}/action"]  # inputs: torch tensors by name, such as {_port(value)!r}
```""",
        "## Inputs and outputs",
        "Inputs are the raw numbers of the environment, not normalised. Each call is one step.",
        table(
            ("", "name", "dtype", "shape", "kind"),
            (*_rows("input", model["inputs"]), *_rows("output", model["outputs"])),
        ),
        _kinds(model),
        _frequency(spec),
        _states(spec),
        observation_tables(spec),
    )


def _port(value: dict[str, Any]) -> str:
    return f"{NODE}/{value['pipeline']['inputs'][NODE][0]}"


def _rows(what: str, tensors: Iterable[dict[str, Any]]) -> Iterable[tuple[str, ...]]:
    for each in tensors:
        yield what, each["name"], each["dtype"], str(each["shape"]), each.get("kind", "unknown")


def _kinds(model: dict[str, Any]) -> str:
    if all("kind" in each for each in (*model["inputs"], *model["outputs"])):
        return ""
    return (
        "A runtime cannot connect a tensor without a kind by itself. Write a converter between it\n"
        "and the robot's signals: `element_names` has the names of its numbers, `units` their\n"
        "units. A unit may have a factor: in `150 N m`, an action of 0.5 is 75 N m."
    )


def _frequency(spec: PolicySpec) -> str:
    if spec.period is None:
        return "The control period is unknown, so the description has no `frequency`."
    return f"`frequency` is {1 / spec.period:g} Hz: the policy acts every {spec.period:g} s."


def _states(spec: PolicySpec) -> str:
    if not spec.states:
        return ""
    return (
        "The policy was trained on stacked frames. `feedback_flow` feeds the earlier ones back.\n"
        "Reset the graph at the start of an episode, so that they are zeros."
    )
