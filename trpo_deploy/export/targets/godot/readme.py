"""The file ``README.md`` of a folder for Godot."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np

from trpo_deploy.export.targets.games.actions import Branches, GameRange
from trpo_deploy.export.targets.games.tables import (
    action_table,
    numbers,
    observation_tables,
    page,
    table,
)
from trpo_deploy.export.targets.godot.agent import action_space, observation_sizes
from trpo_deploy.spec.policy_spec import OBS, PolicySpec
from trpo_deploy.spec.spaces import BoxSpace

_TICKS = 60
"""Ticks of physics in a second that the plugin sets."""


def readme_text(spec: PolicySpec, name: str) -> str:
    """How to use the file with Godot RL Agents: settings, and the controller's code."""
    return page(
        f"# {name} for Godot",
        f"""\
`{name}.onnx` is a policy for the plugin Godot RL Agents. `certificate.json` says how it was
compared with the policy, through an emulation of the plugin's inputs and actions in onnxruntime.
Godot itself was not run.""",
        "## Scene",
        f"""\
The plugin runs ONNX files with C#, so use the .NET version of Godot 4. Copy `{name}.onnx` into the
project, and add `*.onnx` to the files that the game's export includes.""",
        _settings(spec, name),
        "## Observations",
        """\
`get_obs` returns the raw numbers of the environment, in its units and order, the last axis fastest.
The file normalises them. An image is its bytes, 0 to 255, in a row.""",
        table(("key", "numbers"), ((key, str(size)) for key, size in _sizes(spec))),
        observation_tables(spec),
        _notes(spec),
        "## Actions",
        _actions_text(spec),
        action_table(spec),
        "## Controller",
        f"```gdscript\n{_controller(spec)}\n```",
    )


def _sizes(spec: PolicySpec) -> Iterable[tuple[str, int]]:
    return observation_sizes(spec).items()


def _settings(spec: PolicySpec, name: str) -> str:
    rows = [
        ("Sync", "Control Mode", "Onnx Inference"),
        ("", "Onnx Model Path", f"res://{name}.onnx"),
        ("", "Action Repeat", _action_repeat(spec)),
        ("AIController", "script", "the one below"),
    ]
    return table(("node", "setting", "value"), rows)


def _action_repeat(spec: PolicySpec) -> str:
    """Ticks of physics between two actions."""
    if spec.period is None:
        return f"ticks between two actions of the training, {_TICKS} in a second"
    ticks = spec.period * _TICKS
    if round(ticks) >= 1 and abs(ticks - round(ticks)) < 1e-3:
        return f"{round(ticks)}, for {spec.period:g} s between two actions"
    return (
        f"1, after replacing the {_TICKS} in `_initialize` of the plugin's sync.gd by "
        f"{1 / spec.period:g}, for {spec.period:g} s between two actions"
    )


def _notes(spec: PolicySpec) -> str:
    notes = []
    if set(spec.observation_spaces) != {OBS}:
        notes.append(
            "The plugin must pass the whole dictionary of `get_obs` to the file. Older versions\n"
            "pass `obs` only: see `_inference_process` in its `sync.gd`."
        )
    if spec.states:
        notes.append(
            "The policy was trained on stacked frames. The controller keeps the earlier ones and\n"
            "returns all of them, the oldest first, with zeros at the start of an episode."
        )
    return page(*notes) if notes else ""


def _actions_text(spec: PolicySpec) -> str:
    if isinstance(spec.action_space, BoxSpace):
        return "The plugin limits actions to -1..1. The controller scales them."
    return "The plugin takes the most likely value. Values count from 0."


def _controller(spec: PolicySpec) -> str:
    lines = ["extends AIController3D # or AIController2D", ""]
    if spec.states:
        frames = [(_frames(index), size) for index, (_, size) in enumerate(_sizes(spec))]
        lines += [
            *(f"var {name} := _zeros({size})" for name, size in frames),
            "",
            "func reset():",
            "\tsuper.reset()",
            *(f"\t{name} = _zeros({size})" for name, size in frames),
            "",
            "func _zeros(count: int) -> Array:",
            "\tvar zeros := []",
            "\tzeros.resize(count)",
            "\tzeros.fill(0.0)",
            "\treturn zeros",
            "",
        ]
    return "\n".join(
        [*lines, *_get_obs(spec), "", *_get_action_space(spec), "", *_set_action(spec)]
    )


def _frames(index: int) -> str:
    return f"frames_{index}"


def _get_obs(spec: PolicySpec) -> list[str]:
    lines = ["func get_obs() -> Dictionary:"]
    entries = []
    for index, (key, size) in enumerate(_sizes(spec)):
        now = int(np.prod(spec.observation_spaces[key].shape))
        lines.append(f"\tvar now_{index} := [] # {now} numbers from the scene")
        value = f"now_{index}"
        if spec.states:
            value = _frames(index)
            lines.append(f"\t{value} = ({value} + now_{index}).slice(-{size})")
        entries.append(f"{json.dumps(key, ensure_ascii=False)}: {value}")
    return [*lines, f"\treturn {{{', '.join(entries)}}}"]


def _get_action_space(spec: PolicySpec) -> list[str]:
    entries = [
        f'\t\t"{key}": {{"size": {each.size}, "action_type": "{each.action_type}"}},'
        for key, each in action_space(spec).items()
    ]
    return ["func get_action_space() -> Dictionary:", "\treturn {", *entries, "\t}"]


def _set_action(spec: PolicySpec) -> list[str]:
    space, head = spec.action_space, "func set_action(action) -> void:"
    if isinstance(space, BoxSpace):
        to = GameRange.of(space)
        return [
            f"const CENTER := [{numbers(to.center)}]",
            f"const HALF := [{numbers(to.half)}]",
            "",
            head,
            "\tfor i in CENTER.size():",
            '\t\tvar value = CENTER[i] + HALF[i] * action["action"][i] # the environment\'s',
            "\t\t# apply it to joint or motor i",
        ]
    starts = Branches.of(space).starts.tolist()
    lines = [
        f'\tvar {key} = action["{key}"]{f" + ({start})" if start else ""} # the environment\'s'
        for key, start in zip(action_space(spec), starts, strict=True)
    ]
    return [head, *lines, "\t# apply it to the scene"]
