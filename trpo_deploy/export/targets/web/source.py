"""The files ``NAME.js`` and ``NAME.global.js``: weights and the class ``Policy``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from importlib.resources import files

import numpy as np

from trpo_deploy.export.targets.agreement import action_scale
from trpo_deploy.export.targets.golden import Golden
from trpo_deploy.export.targets.program import Dense, Program, Reshape, Tensor
from trpo_deploy.export.targets.web.interface import has_keys, read_inputs
from trpo_deploy.export.targets.web.literals import (
    array_type,
    comment,
    decoded,
    numbers,
    string,
)
from trpo_deploy.export.targets.web.steps import StepWriter
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import BoxSpace

Lines = Iterator[str]

_FUNCTION = re.compile(r"^(?://[^\n]*\n)*function (?P<name>\w+)\(.*?^}$", re.MULTILINE | re.DOTALL)
"""A function of ``library.js`` with the comment above it."""

_EXPORT = "export { Policy };\n"
_ONLY_IN_POLICY_JSON = (
    *("inputs", "outputs", "normalizer", "preprocessing"),
    *("source_sha256", "training", "versions"),
)
_OVERFLOW = "the network overflows for this observation"
_BAD_FRAMES = "the earlier frames have numbers that are not finite; call reset()"


def module_text(program: Program, name: str, golden: Golden) -> str:
    """The text of ``NAME.js``, an ES module.

    Raises:
        ExportError: JavaScript cannot hold the policy.
    """
    return f"{_title(program.spec, name)}\n\n{_body(program, golden)}\n{_EXPORT}"


def script_text(module: str, name: str) -> str:
    """The text of ``NAME.global.js``, a script that defines the global ``NAME``.

    Args:
        module: The text of ``NAME.js``.
        name: Name of the global.
    """
    body = module.removesuffix(_EXPORT)
    return f'var {name} = (function () {{\n"use strict";\n\n{body}\nreturn {{ Policy }};\n}})();\n'


def _title(spec: PolicySpec, name: str) -> str:
    environment = spec.environment.id if spec.environment else "an unknown environment"
    lines = [
        f"{name}: {spec.algorithm} on {environment}. Written by trpo-deploy.",
        "Pass raw observations: this code has the steps from them to the action.",
        *spec.preprocessing,
    ]
    return "\n".join(f"// {comment(line)}" for line in lines)


def _body(program: Program, golden: Golden) -> str:
    """The class, the functions that it calls, and the constants."""
    writer = _PolicyWriter(program)
    policy = "\n".join(_indented(writer.policy()))
    constants = [*writer.definitions(), *_golden(program.spec, golden)]
    return "\n\n".join([policy, *_functions([policy, *constants]), "\n".join(constants)]) + "\n"


def _indented(lines: Iterable[str]) -> Lines:
    """Indent lines by the braces around them."""
    depth = 0
    for line in lines:
        text = line.strip()
        depth -= text.startswith("}")
        yield "  " * depth + text if text else ""
        depth += text.endswith("{")


def _functions(texts: Iterable[str]) -> Iterator[str]:
    """The functions of ``library.js`` that some code calls, in their order there."""
    library = (files(__package__) / "library.js").read_text(encoding="utf-8")
    functions = {each["name"]: each[0] for each in _FUNCTION.finditer(library)}
    needed: set[str] = set()
    found = {name for text in texts for name in _called(text)} & functions.keys()
    while found - needed:
        needed |= found
        found = {each for name in needed for each in _called(functions[name])} & functions.keys()
    return (functions[name] for name in functions if name in needed)


def _called(source: str) -> set[str]:
    return set(re.findall(r"\b(\w+)\(", source))


class _PolicyWriter:
    """Writes the class ``Policy``."""

    def __init__(self, program: Program) -> None:
        self.program, self.spec = program, program.spec
        self.inputs = list(read_inputs(self.spec))
        self._names: dict[Tensor, str] = {}
        for index, each in enumerate(self.inputs):
            self._names[program.inputs[each.key]] = f"inputs[{index}].data"
        for state in self.spec.states:
            key = state.input.key
            self._names[program.inputs[key]] = f"this.frames[{string(key)}]"
        self._arrays: list[str] = []
        for step in program.steps:
            if isinstance(step, Reshape):
                self._names[step.output] = self._names[step.input]
            else:
                self._names[step.output] = self._new_array(step.output)
        self.writer = StepWriter(self._name)

    def _name(self, tensor: Tensor) -> str:
        return self._names[tensor]

    def _new_array(self, tensor: Tensor) -> str:
        name = f"t{len(self._arrays)}"
        self._arrays.append(f"const {name} = new {array_type(tensor.dtype)}({tensor.size});")
        return name

    def policy(self) -> Lines:
        """The class, line by line."""
        yield "class Policy {"
        yield "spec = spec;"
        if self.spec.states:
            frames = (
                f"[{string(each.key)}]: new {array_type(np.dtype(each.dtype))}({_size(each.shape)})"
                for each in (state.input for state in self.spec.states)
            )
            yield f"frames = {{ {', '.join(frames)} }};"
        yield ""
        yield from self._act()
        yield ""
        yield "// Start an episode."
        yield "reset() {"
        if self.spec.states:
            yield "for (const each of Object.values(this.frames)) each.fill(0);"
        yield "}"
        yield ""
        yield "// The largest error over the golden rows, as a part of the action's range."
        yield "selfTest() {"
        yield "return largestError(new Policy(), golden);"
        yield "}"
        yield "}"

    def _act(self) -> Lines:
        yield "// The action for a raw observation."
        yield "act(observation) {"
        if has_keys(self.spec):
            yield "readKeys(inputs, observation);"
        else:
            yield "read(inputs[0], observation);"
        for state in self.spec.states:
            frames = self.program.inputs[state.input.key]
            if frames.dtype.kind == "f":
                yield f"checkFinite({self._name(frames)}, {string(_BAD_FRAMES)});"
        steps = self.program.steps
        last = max((n for n, each in enumerate(steps) if isinstance(each, Dense)), default=-1)
        for index, step in enumerate(steps):
            if not isinstance(step, Reshape):
                yield from self.writer.lines(step)
            if index == last:
                yield f"checkFinite({self._name(step.output)}, {string(_OVERFLOW)});"
        for key, tensor in self.program.next_states.items():
            yield f"{self._name(self.program.inputs[key])}.set({self._name(tensor)});"
        shape = list(self.spec.action_space.shape)
        yield f"return nested({self._name(self.program.action)}, {shape});"
        yield "}"

    def definitions(self) -> Lines:
        """The constants and arrays of the module."""
        yield f"const spec = JSON.parse({string(_interface_json(self.spec))});"
        yield "const inputs = ["
        yield from (f"  {each.definition()}," for each in self.inputs)
        yield "];"
        yield from self._arrays
        yield self.writer.weights()
        yield from self.writer.constants


def _interface_json(spec: PolicySpec) -> str:
    """The part of the spec that a program around the policy needs; ``policy.json`` has all."""
    values = json.loads(spec.to_json())
    kept = {key: value for key, value in values.items() if key not in _ONLY_IN_POLICY_JSON}
    return json.dumps(kept, separators=(",", ":"))


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _golden(spec: PolicySpec, golden: Golden) -> Lines:
    """The golden rows, as the observations that ``act`` takes."""
    inputs, space = list(read_inputs(spec)), spec.action_space
    scale = action_scale(space) if isinstance(space, BoxSpace) else np.ones(1)
    rows = [_row(f"this.observed[{n}]", each.space.shape) for n, each in enumerate(inputs)]
    pairs = (f"[{string(each.key)}]: {row}" for each, row in zip(inputs, rows, strict=True))
    observation = f"{{ {', '.join(pairs)} }}" if has_keys(spec) else rows[0]
    yield "const golden = {"
    yield f"  rows: {len(golden.actions)},"
    yield f"  observed: [{', '.join(decoded(golden.observations[each.key]) for each in inputs)}],"
    yield f"  actions: {decoded(golden.actions)},"
    yield f"  scale: {numbers(scale)},"
    yield "  observation(n) {"
    yield f"    return {observation};"
    yield "  },"
    yield "};"


def _row(rows: str, shape: tuple[int, ...]) -> str:
    """Expression for row ``n``."""
    return (
        f"{rows}.subarray(n * {_size(shape)}, (n + 1) * {_size(shape)})" if shape else f"{rows}[n]"
    )
