"""The controller in C does, call by call, what the table of cases says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.export.targets.c.boards import CORTEX_M3, CORTEX_M4F, Board
from tests.export.targets.c.folders import NAME, SANITIZERS, WARNINGS, compiler, run, write_folder
from tests.export.targets.programs import KINDS
from tests.runtime import control_policy
from tests.runtime.control_policy import write_linear_policy
from trpo_deploy.export import TargetOptions, export_file, export_policy
from trpo_deploy.files.runs import find_run
from trpo_deploy.runtime import Controller, OnnxPolicy

TABLE = json.loads(Path(control_policy.__file__).with_name("controller_cases.json").read_text())
POLICY = TABLE["policy"]
ROOT = Path(__file__).parents[4]
FAULTS = ("none", "late", "stale", "not_finite", "out_of_range", "policy")
"""In the order of the enumeration."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The policy of the table as C files."""
    path = tmp_path_factory.mktemp("controller")
    onnx = write_linear_policy(path / "policy.onnx", POLICY)
    export_file(onnx, TargetOptions("c", path / "c", NAME), verify=False)
    return path / "c"


def literal(value: Any) -> str:
    if value is None:
        return "(double)NAN"
    number = float(value)
    if np.isfinite(number):
        return repr(number)
    return "(double)NAN" if np.isnan(number) else f"{'-' if number < 0 else ''}(double)INFINITY"


def array(values: Sequence[Any]) -> str:
    return ", ".join(f"(float){literal(value)}" for value in values)


def strings(values: Sequence[str]) -> str:
    return ", ".join(f'"{value}"' for value in values)


def settings(case: Mapping[str, Any]) -> Iterator[str]:
    """Statements that set what a case sets."""
    given = dict(case["settings"])
    order = given.pop("action_order", POLICY["action_names"])
    calls = {"observation": given.pop("observation_order", None), "action": order}
    for what, names in calls.items():
        if names:
            yield f"{{ const char *const names[] = {{{strings(names)}}};"
            yield f"  check({NAME}_controller_order_{what}(&s, names)); }}"
    for name, (low, high) in given.pop("observation_range", {}).items():
        bounds = f"(float){literal(low)}, (float){literal(high)}"
        yield f'check({NAME}_controller_range(&s, "{name}", {bounds}));'
    yield f"s.safe_at_once = {str(given.pop('on_fault', 'hold') == 'safe').lower()};"
    for name, value in given.items():
        if name in ("safe_action", "rate_limit", "blend_in"):
            by_name = value if isinstance(value, dict) else {}
            values = value if isinstance(value, list) else [value] * len(order)
            numbers = [by_name.get(each, 0) for each in order] if by_name else values
            for index, number in enumerate(numbers):
                yield f"s.{name}[{index}] = (float){literal(number)};"
        else:
            yield f"s.{name} = {literal(value)};"


def program(cases: Sequence[Mapping[str, Any]]) -> str:
    """A program that runs cases and prints a fault and an action for each call."""
    lines = []
    for case in cases:
        lines += [f"{NAME}_controller_defaults(&s);", *settings(case)]
        lines.append(f"check({NAME}_controller_init(&c, &s));")
        for step in case["steps"]:
            if "reset" in step:
                current = step["reset"]
                pointer = f"(const float[]){{{array(current)}}}" if current else "NULL"
                lines.append(f"{NAME}_controller_reset(&c, {pointer});")
                continue
            now, stamp = literal(step["now"]), literal(step.get("stamp"))
            observation = f"(const float[]){{{array(step['observation'])}}}"
            lines.append(f"call(&c, {now}, {stamp}, {observation});")
    return with_main(lines)


def with_main(lines: Sequence[str], real: str = "float") -> str:
    """A program of some statements."""
    return f"""\
#include "{NAME}_controller.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void check(bool is_right)
{{
    if (!is_right) {{
        exit(1);
    }}
}}

static void call({NAME}_controller *c, double now, double stamp, const {real} *observation)
{{
    float action[{NAME.upper()}_ACTION_SIZE];
    const int fault = (int){NAME}_controller_act(c, now, stamp, observation, action);
    printf("%d", fault);
    for (int32_t i = 0; i < {NAME.upper()}_ACTION_SIZE; ++i) {{
        printf(" %.9g", (double)action[i]);
    }}
    printf("\\n");
}}

static {NAME}_controller_settings s;
static {NAME}_controller c;

int main(void)
{{
    {chr(10).join(lines)}
    return 0;
}}
"""


def built(folder: Path, text: str, command: str, *options: str) -> list[str]:
    """The lines that a program with the controller prints."""
    source, output = folder.parent / "main.c", folder.parent / "main"
    source.write_text(text)
    sources = files(folder, source)
    run([command, "-std=c99", f"-I{folder}", *options, *sources, "-o", output, "-lm"])
    return run([output]).splitlines()


def files(folder: Path, main: Path) -> list[Path]:
    return [main, folder / f"{NAME}.c", folder / f"{NAME}_controller.c"]


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("gcc", ("-O2", *SANITIZERS)),
        ("gcc", ("-O3", "-ffast-math")),
        ("clang", ("-O2",)),
    ],
)
def test_c_does_what_the_table_of_cases_says(
    folder: Path, command: str, options: tuple[str, ...]
) -> None:
    check_table(built(folder, program(TABLE["cases"]), compiler(command), *options))


@pytest.mark.parametrize("board", [CORTEX_M3, CORTEX_M4F], ids=lambda board: board.machine)
def test_a_microcontroller_does_what_the_table_of_cases_says(folder: Path, board: Board) -> None:
    source, image = folder.parent / "main.c", folder.parent / "image.elf"
    source.write_text(program(TABLE["cases"]))
    board.build(files(folder, source), image, f"-I{folder}", "-Os")
    check_table(board.run(image).splitlines())


def check_table(printed: list[str]) -> None:
    """Check faults and actions against the table's."""
    steps = [
        (case["name"], step) for case in TABLE["cases"] for step in case["steps"] if "now" in step
    ]
    assert len(printed) == len(steps)
    for line, (name, step) in zip(printed, steps, strict=True):
        fault, *action = line.split()
        assert FAULTS[int(fault)] == step.get("fault", "none"), (name, step)
        # Sums of a few float32 numbers of at most 4.
        np.testing.assert_allclose(np.array(action, float), step["action"], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("command", ["gcc", "clang"])
def test_it_compiles_without_warnings(folder: Path, tmp_path: Path, command: str) -> None:
    source = folder / f"{NAME}_controller.c"
    for language in (("-std=c99",), ("-xc++", "-std=c++17")):
        options = ["-O2", *WARNINGS, *language, "-c"]
        run([compiler(command), *options, source, "-o", tmp_path / "controller.o"])


REFUSED = [
    "s.period = 0.002;",
    "s.period = 0.0;",
    "s.period = (double)NAN;",
    "s.period_tolerance = (double)NAN;",
    "s.max_age = (double)NAN;",
    "s.max_delay = (double)NAN;",
    "s.max_hold = (double)NAN;",
    "s.safe_action[0] = 1.5f;",
    "s.safe_action[0] = (float)NAN;",
    "s.rate_limit[1] = -1.0f;",
    "s.rate_limit[1] = (float)NAN;",
    "s.blend_in[0] = (float)NAN;",
    "s.blend_in[0] = (float)INFINITY;",
    "s.high[0] = (float)NAN;",
    "s.low[0] = 2.0f; s.high[0] = 1.0f;",
    "s.observation_position[0] = 1;",
    "s.action_position[1] = -1;",
    "s.action_position[1] = POL_ACTION_SIZE;",
    'const char *const n[] = {"x", "x"}; done = pol_controller_order_action(&s, n);',
    'const char *const n[] = {"x", "z"}; done = pol_controller_order_action(&s, n);',
    'done = pol_controller_range(&s, "z", 0.0f, 1.0f);',
    'done = pol_controller_range(&s, "a", 1.0f, 0.0f);',
    'done = pol_controller_range(&s, "a", (float)NAN, 0.0f);',
]
"""Statements after which a controller does not begin."""


def test_settings_that_do_not_fit_are_refused(folder: Path) -> None:
    lines = [
        f"{{ bool done = true; pol_controller_defaults(&s); {statement}"
        ' printf("%d\\n", done && pol_controller_init(&c, &s)); }'
        for statement in ("", *REFUSED)
    ]
    begun, *others = built(folder, with_main(lines), compiler("gcc"), "-O1", "-ffast-math")
    assert begun == "1"
    assert dict(zip(REFUSED, others, strict=True)) == dict.fromkeys(REFUSED, "0")


@pytest.mark.parametrize("number", ["4.5f", "(float)NAN", "(float)INFINITY"])
def test_an_episode_starts_from_no_action_out_of_bounds(folder: Path, number: str) -> None:
    lines = [
        "pol_controller_defaults(&s);",
        "check(pol_controller_init(&c, &s));",
        f"check(!pol_controller_reset(&c, (const float[]){{0.0f, {number}}}));",
        "call(&c, 0.0, 0.0, (const float[]){(float)NAN, 0.0f, 0.0f});",
    ]
    (printed,) = built(folder, with_main(lines), compiler("gcc"), "-O1", "-ffast-math")
    np.testing.assert_array_equal([*map(float, printed.split()[1:])], POLICY["safe_action"])


def test_without_a_safe_action_it_must_be_set(tmp_path: Path) -> None:
    onnx = write_linear_policy(tmp_path / "policy.onnx", POLICY, safe_action=None)
    export_file(onnx, TargetOptions("c", tmp_path / "c", NAME), verify=False)
    defaults, begin = "pol_controller_defaults(&s);", "check(pol_controller_init(&c, &s));"
    with pytest.raises(AssertionError):
        built(tmp_path / "c", with_main([defaults, begin]), compiler("gcc"))
    given = "s.safe_action[0] = s.safe_action[1] = 0.0f;"
    built(tmp_path / "c", with_main([defaults, given, begin]), compiler("gcc"))


@pytest.mark.parametrize(
    "kind",
    ["action box n-d", "action box unbounded", "float64", "guarded stack", "normalised stack"],
)
def test_without_names_it_acts_like_the_controller_in_python(tmp_path: Path, kind: str) -> None:
    folder = write_folder(tmp_path, **KINDS[kind])
    policy = OnnxPolicy(next((tmp_path / "model").rglob("*.onnx")))
    ((_, space),) = policy.spec.observation_spaces.items()
    size = int(np.prod(policy.spec.action_space.shape))
    controller = Controller(policy, period=1.0, clock=lambda: 0.0, safe_action=0.5, blend_in=8.0)
    rows = np.random.default_rng(0).normal(size=(12, *space.shape), scale=0.4).astype(space.dtype)
    rows[5], rows[6].flat[-1] = np.nan, 1e30
    expected, faults = [], []
    for row in rows:
        before = controller.stats.faults
        expected.append(controller.act(row).reshape(-1))
        after = controller.stats.faults
        faults.append(next((each for each in after if after[each] > before[each]), "none"))
    assert faults[5:7] == ["not_finite", "out_of_range"]
    assert faults.count("none") > 5
    real = "double" if space.dtype == np.float64 else "float"
    lines = ["pol_controller_defaults(&s);", "s.period = 1.0;"]
    lines += [f"s.safe_action[{i}] = 0.5f; s.blend_in[{i}] = 8.0f;" for i in range(size)]
    lines.append("check(pol_controller_init(&c, &s));")
    for row in rows:
        numbers = ", ".join(f"({real}){literal(value)}" for value in row.flat)
        lines.append(f"call(&c, 0.0, 0.0, (const {real}[]){{{numbers}}});")
    printed = built(folder, with_main(lines, real), compiler("gcc"), "-O1", *SANITIZERS, *WARNINGS)
    found = [line.split() for line in printed]
    assert [FAULTS[int(fault)] for fault, *_ in found] == faults
    # C and onnxruntime sum float32 numbers of order one in another order.
    actions = np.array([action for _, *action in found], float)
    np.testing.assert_allclose(actions, expected, rtol=0, atol=1e-5)


def test_discrete_actions_and_keys_have_no_controller(tmp_path: Path) -> None:
    for kind in ("action discrete", "observation dict"):
        folder = write_folder(tmp_path / re.sub(r"\W", "_", kind), **KINDS[kind])
        assert not list(folder.glob("*_controller.*"))


def test_the_example_of_the_page_compiles_and_begins(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "targets.md").read_text()
    section = page.partition("### The controller in C")[2].partition("\n## ")[0]
    (example,) = re.findall(r"```c\n(.*?)```", section, re.DOTALL)
    export_policy(find_run(ROOT / "models" / "Ant-v5"), tmp_path / "ant.onnx", verify=False)
    export_file(tmp_path / "ant.onnx", TargetOptions("c", tmp_path / "c", "ant_v5"), verify=False)
    source = tmp_path / "main.c"
    source.write_text(f"{example}\nint main(void)\n{{\n    return begin() ? 0 : 1;\n}}\n")
    files = [source, tmp_path / "c" / "ant_v5.c", tmp_path / "c" / "ant_v5_controller.c"]
    options = ["-std=c99", "-Wall", "-Wextra", f"-I{tmp_path / 'c'}", "-o", tmp_path / "main"]
    run([compiler("gcc"), *files, *options, "-lm"])
    run([tmp_path / "main"])
