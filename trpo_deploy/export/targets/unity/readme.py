"""The file ``README.md`` of a folder for Unity."""

from __future__ import annotations

import math

from trpo_deploy.export.targets.games.actions import Branches, GameRange
from trpo_deploy.export.targets.games.tables import (
    action_table,
    numbers,
    observation_tables,
    page,
    table,
)
from trpo_deploy.export.targets.unity.behavior import Behavior, Sensor
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import BoxSpace

_FIXED_TIMESTEP = 0.02
"""Unity's default, in seconds. Decision Period is a number of these, from 1 to 20."""


def readme_text(spec: PolicySpec, name: str) -> str:
    """How to use the file with ML-Agents: what to enter, and the agent's code."""
    behavior = Behavior.of(spec)
    return page(
        f"# {name} for Unity",
        f"""\
`{name}.onnx` is a policy for ML-Agents with `com.unity.ai.inference` (API version 3).
`certificate.json` says how it was compared with the policy, through an emulation of ML-Agents'
checks, inputs and actions in onnxruntime. The Unity editor itself was not run.""",
        "## Scene",
        f"Copy `{name}.onnx` into `Assets`. Give the agent's object these components:",
        _components(spec, behavior, name),
        _sensors_text(behavior),
        "## Observations",
        "Write the raw numbers of the environment, in its units and order, the last axis fastest.\n"
        "The file normalises them, and scales what a camera writes.",
        observation_tables(spec),
        _memory(spec),
        "## Actions",
        _actions_text(spec),
        action_table(spec),
        "Each action is the most likely one, with and without *Deterministic Inference*.",
        "## Agent",
        f"```csharp\n{_agent(spec, behavior, name)}\n```",
    )


def _memory(spec: PolicySpec) -> str:
    if not spec.states:
        return ""
    return (
        "The policy was trained on stacked frames. The earlier ones are the file's memory, which\n"
        "ML-Agents keeps and clears itself. The sensors write one frame, without stacking."
    )


def _components(spec: PolicySpec, behavior: Behavior, name: str) -> str:
    size = behavior.sensors[0].shape[0] if _is_vector_only(behavior) else 0
    sizes = ", ".join(map(str, behavior.branches)) or "none"
    rows = [
        ("Behavior Parameters", "Model", name),
        ("", "Behavior Type", "Inference Only"),
        ("", "Vector Observation > Space Size", str(size)),
        ("", "Vector Observation > Stacked Vectors", "1"),
        ("", "Actions > Continuous Actions", str(behavior.continuous)),
        ("", "Actions > Discrete Branches", str(len(behavior.branches))),
        ("", "Actions > Branch Sizes", sizes),
        ("Decision Requester", "Decision Period", _decision_period(spec)),
    ]
    return table(("component", "setting", "value"), rows)


def _decision_period(spec: PolicySpec) -> str:
    if spec.period is None:
        return "steps of physics between two actions of the training"
    steps = spec.period / _FIXED_TIMESTEP
    if round(steps) in range(1, 21) and math.isclose(steps, round(steps), rel_tol=1e-6):
        return f"{round(steps)} (the action lasts {spec.period:g} s, Fixed Timestep is 0.02 s)"
    return f"1, and {spec.period:g} s as Fixed Timestep (Project Settings > Time)"


def _is_vector_only(behavior: Behavior) -> bool:
    return len(behavior.sensors) == 1 and not behavior.sensors[0].is_visual


def _sensors_text(behavior: Behavior) -> str:
    """What to add if the agent's own vector of observations is not enough."""
    if _is_vector_only(behavior):
        return ""
    rows = [
        (f"obs_{index}", f"{index:02d}_{sensor.key}", _shape_text(sensor))
        for index, sensor in enumerate(behavior.sensors)
    ]
    return page(
        "Add a sensor for each input. ML-Agents sorts sensors by name, so give them these names:",
        table(("input", "Sensor Name", "sensor"), rows),
    )


def _shape_text(sensor: Sensor) -> str:
    if not sensor.is_visual:
        return f"Vector Sensor, Observation Size {sensor.shape[0]}"
    channels, height, width = sensor.shape
    kind = {1: "Camera Sensor, Grayscale", 3: "Camera Sensor"}.get(
        channels, f"a sensor of your own with {channels} channels"
    )
    return (
        f"{kind}, Width {width}, Height {height}; 0..1 for 0..{sensor.scale:g} of the environment"
    )


def _actions_text(spec: PolicySpec) -> str:
    if isinstance(spec.action_space, BoxSpace):
        return "Continuous actions are in -1..1, as ML-Agents' own. The agent scales them."
    return "Discrete actions count from 0. Action masks work as usual."


def _agent(spec: PolicySpec, behavior: Behavior, name: str) -> str:
    title = "".join(part.capitalize() for part in name.split("_"))
    lines = [
        "using Unity.MLAgents;",
        "using Unity.MLAgents.Actuators;",
        "using Unity.MLAgents.Sensors;",
        "using UnityEngine;",
        "",
        f"public class {title}Agent : Agent",
        "{",
    ]
    if _is_vector_only(behavior):
        lines += [
            "    public override void CollectObservations(VectorSensor sensor)",
            "    {",
            f"        // {behavior.sensors[0].shape[0]} numbers",
            "        // sensor.AddObservation(...);",
            "    }",
            "",
        ]
    return "\n".join([*lines, *_on_action_received(spec), "}"])


def _on_action_received(spec: PolicySpec) -> list[str]:
    head = ["    public override void OnActionReceived(ActionBuffers actions)", "    {"]
    if isinstance(spec.action_space, BoxSpace):
        return [*_continuous_constants(spec.action_space), *head, *_continuous_body(), "    }"]
    starts = Branches.of(spec.action_space).starts.tolist()
    body = [
        f"        int action{'' if len(starts) == 1 else index} = actions.DiscreteActions[{index}]"
        f"{f' + ({start})' if start else ''}; // the environment's"
        for index, start in enumerate(starts)
    ]
    return [*head, *body, "        // apply it to the scene", "    }"]


def _continuous_constants(space: BoxSpace) -> list[str]:
    to = GameRange.of(space)
    return [
        f"    static readonly float[] Center = {{ {numbers(to.center, 'f')} }};",
        f"    static readonly float[] Half = {{ {numbers(to.half, 'f')} }};",
        "",
    ]


def _continuous_body() -> list[str]:
    return [
        "        for (int i = 0; i < Center.Length; i++)",
        "        {",
        "            // the environment's action",
        "            float action = Center[i] + Half[i] * actions.ContinuousActions[i];",
        "            // apply it to joint or motor i",
        "        }",
    ]
