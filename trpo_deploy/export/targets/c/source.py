"""The file ``NAME.c``: weights and the function ``NAME_act``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from trpo_deploy.export.targets.c.header import bounds, name_tables
from trpo_deploy.export.targets.c.interface import Interface, Member, c_type
from trpo_deploy.export.targets.c.literals import number
from trpo_deploy.export.targets.c.memory import plan_memory
from trpo_deploy.export.targets.c.steps import StepWriter
from trpo_deploy.export.targets.c.views import View, views
from trpo_deploy.export.targets.program import Conv, Dense, Program, Reshape, Step, Tensor, operands
from trpo_deploy.export.targets.robot import RobotFacts
from trpo_deploy.spec.spaces import Array

Lines = Iterator[str]

# Bits of the largest finite number, above which are infinity and NaN.
_INFINITY = {"float": "0x7f800000u", "double": "0x7ff0000000000000u"}
_LARGEST = {"float": "0x7f7fffffu", "double": "0x7fefffffffffffffu"}


def source_text(program: Program, interface: Interface, facts: RobotFacts) -> str:
    """The text of ``NAME.c``.

    Raises:
        ExportError: C cannot hold the policy.
    """
    body = _Body(program, interface)
    act = list(_indented(body.act()))
    parts = [
        f'/* Written by trpo-deploy; see {interface.name}.h. */\n#include "{interface.name}.h"',
        "#include <math.h>",
        *bounds(interface),
        *name_tables(interface, facts),
        _safe_action(interface, facts.safe_action),
        *body.writer.constants,
        *_helpers(interface, act),
        "\n".join(_reset(interface)),
        "\n".join(act),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _indented(lines: Lines) -> Lines:
    """Indent lines by the braces around them."""
    depth = 0
    for line in lines:
        text = line.strip()
        depth -= text.startswith("}")
        yield "    " * depth + text
        depth += text.endswith("{")


def _safe_action(interface: Interface, safe: Array) -> str:
    action = interface.action
    values = ", ".join(number(each, action.ctype) for each in safe.reshape(-1))
    name = f"{interface.name}_safe_action"
    return f"const {action.ctype} {name}[{action.size}] = {{{values}}};"


def _helpers(interface: Interface, act: list[str]) -> Lines:
    """The helper functions that the body calls."""
    text, name = "\n".join(act), interface.name
    for ctype, bits, mask in (
        ("float", "uint32_t", "0x7fffffffu"),
        ("double", "uint64_t", "0x7fffffffffffffffu"),
    ):
        if f"{name}_magnitude_{ctype}(" in text:
            yield (
                "/* The bits without the sign, which order numbers like their size. Integer\n"
                "   arithmetic stays with -ffast-math, which removes tests such as x != x. */\n"
                f"static {bits} {name}_magnitude_{ctype}({ctype} x)\n{{\n"
                f"    union {{\n        {ctype} number;\n        {bits} bits;\n    }} both;\n"
                f"    both.number = x;\n    return both.bits & {mask};\n}}"
            )
    if f"{name}_ratio(" in text:
        finite = f"{name}_magnitude_float({{}}) < {_INFINITY['float']}"
        yield (
            "/* x / y, and 0 for an infinite y, where -ffast-math may give NaN. */\n"
            f"static float {name}_ratio(float x, float y)\n{{\n"
            f"    const bool is_zero = {finite.format('x')} && !({finite.format('y')});\n"
            "    return is_zero ? 0.0f : x / y;\n}"
        )
    for ctype, suffix in (("float", "f"), ("double", "")):
        if f"{name}_clip{suffix}(" in text:
            yield (
                f"static {ctype} {name}_clip{suffix}({ctype} x, {ctype} low, {ctype} high)\n{{\n"
                "    return x < low ? low : x > high ? high : x;\n}"
            )


def _reset(interface: Interface) -> Lines:
    if not interface.states:
        return
    yield f"void {interface.name}_reset({interface.name}_state *state)"
    yield "{"
    for each in interface.states:
        zero = number(0, each.ctype)
        yield f"    for (int32_t i = 0; i < {each.size}; ++i) {{"
        yield f"        state->{each.name}[i] = {zero};"
        yield "    }"
    yield "}"


class _Body:
    """Writes the function ``NAME_act``."""

    def __init__(self, program: Program, interface: Interface) -> None:
        self.program, self.interface = program, interface
        self.steps = _scheduled(program)
        self.views: Mapping[Conv, View] = views(self.steps, program.results)
        replaced = {step for view in self.views.values() for step in view.replaced}
        self.steps = [step for step in self.steps if step not in replaced]
        self._integer = _integer_type(interface)
        members = (*interface.observations, *interface.states)
        self._inputs = {program.inputs[each.key]: interface.array(each) for each in members}
        self.memory = plan_memory(self.steps, program.results, self._ctype, self._reads)
        for step in self.steps:
            if isinstance(step, Reshape) and step.input in self._inputs:
                self._inputs[step.output] = self._inputs[step.input]
        self.writer = StepWriter(interface.name, self._address, self._ctype, self.views)

    def act(self) -> Lines:
        """The function, line by line."""
        interface = self.interface
        yield f"bool {interface.name}_act({interface.parameters()})"
        yield "{"
        for array in self.memory.arrays:
            yield f"{array.ctype} {array.name}[{array.size}];"
        yield "uint32_t wrong = 0;"
        yield "/* Check the observation */"
        yield from self._checks()
        yield from self._fallback()
        last = max((n for n, each in enumerate(self.steps) if isinstance(each, Dense)), default=-1)
        for index, step in enumerate(self.steps):
            if not isinstance(step, Reshape):
                yield from self.writer.lines(step)
            if index == last:
                yield from self._overflows(step.output, ">=")
                yield from self._fallback()
            elif isinstance(step, (Conv, Dense)):
                # tanh(infinity) is 1, as in onnxruntime, but a ReLU may turn NaN into 0
                yield from self._overflows(step.output, ">")
        yield from self._results()
        yield "return true;"
        yield "}"

    def _checks(self) -> Lines:
        """Set ``wrong`` if a number of the observation or the earlier frames is not usable."""
        for each in (*self.interface.observations, *self.interface.states):
            array = self.interface.array(each)
            if each.ctype in _INFINITY:
                yield from self._magnitudes(array, each.size, each.ctype)
            elif each.limits is not None:
                low, high = (self._limit(limit) for limit in each.limits)
                test = f"{array}[i] > {high}"
                if not each.ctype.startswith("u"):
                    test = f"{array}[i] < {low} || {test}"
                yield f"for (int32_t i = 0; i < {each.size}; ++i) {{"
                yield f"    wrong |= ({test}) ? 1u : 0u;"
                yield "}"

    def _limit(self, values: Array) -> str:
        if (values == values[0]).all():
            return number(values[0], "int32_t")
        return f"{self.writer.constant(values, 'int32_t')}[i]"

    def _magnitudes(self, array: str, size: int, ctype: str) -> Lines:
        # A guard in the ONNX file refuses the largest finite number too.
        limits = _INFINITY if self.program.spec.guard is None else _LARGEST
        name = f"{self.interface.name}_magnitude_{ctype}"
        yield f"for (int32_t i = 0; i < {size}; ++i) {{"
        yield f"    wrong |= {name}({array}[i]) >= {limits[ctype]} ? 1u : 0u;"
        yield "}"

    def _overflows(self, tensor: Tensor, comparison: str) -> Lines:
        """Set ``wrong`` if huge numbers have overflowed in the network.

        Args:
            tensor: Results of a layer.
            comparison: ``>`` for NaN only, ``>=`` for infinity too.
        """
        yield f"for (int32_t i = 0; i < {tensor.size}; ++i) {{"
        name = f"{self.interface.name}_magnitude_float"
        bits = f"{name}({self._address(tensor)}[i])"
        yield f"    wrong |= {bits} {comparison} {_INFINITY['float']} ? 1u : 0u;"
        yield "}"

    def _fallback(self) -> Lines:
        action = self.interface.action
        yield "if (wrong) {"
        yield f"    for (int32_t i = 0; i < {action.size}; ++i) {{"
        yield f"        action[i] = {self.interface.name}_safe_action[i];"
        yield "    }"
        yield "    return false;"
        yield "}"

    def _results(self) -> Lines:
        """Write the action and, only now, the earlier frames for the next step."""
        yield "/* Results */"
        program, states = self.program, {each.key: each for each in self.interface.states}
        for key, tensor in program.next_states.items():
            yield from self._store(f"state->{states[key].name}", states[key], tensor)
        yield from self._store("action", self.interface.action, program.action)

    def _store(self, to: str, member: Member, tensor: Tensor) -> Lines:
        element = f"{self._address(tensor)}[i]"
        if self._ctype(tensor) != member.ctype:
            element = f"({member.ctype}){element}"
        yield f"for (int32_t i = 0; i < {member.size}; ++i) {{"
        yield f"    {to}[i] = {element};"
        yield "}"

    def _reads(self, step: Step) -> Iterator[Tensor]:
        if isinstance(step, Conv):
            yield self.views[step].base
        else:
            yield from operands(step)

    def _address(self, tensor: Tensor) -> str:
        if tensor in self._inputs:
            return self._inputs[tensor]
        return self.memory.places[tensor].name

    def _ctype(self, value: Tensor | np.dtype[Any]) -> str:
        dtype = value.dtype if isinstance(value, Tensor) else value
        return self._integer if dtype == np.int64 else c_type(str(dtype))


def _integer_type(interface: Interface) -> str:
    """C type of int64 in the graph: 32 bits, unless an observation has numbers of 64 bits."""
    wide = any(each.ctype == "int64_t" for each in interface.observations)
    return "int64_t" if wide else "int32_t"


def _scheduled(program: Program) -> list[Step]:
    """The steps, with those of the next frames last: fewer arrays are in use then."""
    states = set(program.next_states.values())
    last = [step for step in program.steps if step.output in states]
    read = {tensor for step in program.steps for tensor in operands(step)}
    last = [step for step in last if step.output not in read]
    return [step for step in program.steps if step not in last] + last
