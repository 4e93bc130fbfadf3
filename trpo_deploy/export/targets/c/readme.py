"""The file ``README.md`` of a folder of C files."""

from __future__ import annotations

from trpo_deploy.export.policy_card import component_lines
from trpo_deploy.export.targets.agreement import TOLERANCE
from trpo_deploy.export.targets.c.interface import Interface
from trpo_deploy.spec.policy_spec import PolicySpec

_FLAGS = "-std=c99 -O2"


def readme_text(spec: PolicySpec, interface: Interface, cost: str, *, has_controller: bool) -> str:
    """How to compile, call and check the files."""
    name, macro = interface.name, interface.macro
    row = (
        f"| `{name}_controller.h`, `.c` | the policy in a robot's control loop, if you want it |\n"
    )
    test = f"-D{macro}_TEST_MAIN {name}.c {name}_test.c -lm -o {name}_test"
    return f"""\
# {name}

A policy as C99, without a heap and without other libraries than `math.h`. It compiles as C++ too.

| file | content |
|---|---|
| `{name}.h` | types, sizes, bounds, functions |
| `{name}.c` | weights and `{name}_act` |
{row if has_controller else ""}\
| `{name}_test.c` | golden rows and `{name}_selftest`; leave it out of the product |
| `policy.json` | the policy's spec: spaces, inputs, outputs, origin |
| `golden.json` | the golden rows as JSON |
| `certificate.json` | how the files were compared with the trained policy, with their hashes |

{cost}

## Compile and check

```sh
gcc {_FLAGS} {test} && ./{name}_test
clang {_FLAGS} {test} && ./{name}_test
arm-none-eabi-gcc {_FLAGS} -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 -c {name}.c
```

`{name}_selftest()` returns the largest error over the golden rows, as a part of the action's range:
at most {TOLERANCE:g}, and 0 for discrete actions. Run it once on the target. `trpo-deploy verify
SOURCE .` compares these files with the policy on some thousand observations.

`-O3 -march=native -ffast-math` is faster on a PC. The test for NaN and infinity stays: it reads the
bits of the numbers.

## Call

```c
{_example(interface)}
```

Pass the raw observation. `{name}_act` returns `false` and the safe action `{name}_safe_action` if a
number is not finite or not in its range, or if the network overflows.
{_numbers(spec)}"""


def _numbers(spec: PolicySpec) -> str:
    """What the numbers are, as far as the policy tells."""
    lines = "\n".join(component_lines(spec)).strip()
    return f"\n## Observation and action\n\n{lines}\n" if lines else ""


def _example(interface: Interface) -> str:
    name, lines = interface.name, [f'#include "{interface.name}.h"', ""]
    arguments = []
    if interface.states:
        lines += [f"{name}_state state;", f"{name}_reset(&state); /* at the start of an episode */"]
        arguments.append("&state")
    only = interface.observations[0]
    if interface.has_keys:
        lines.append(f"{name}_observation observation; /* fill in all members */")
        arguments.append("&observation")
    else:
        lines.append(f"{only.declaration()}; /* from the sensors */")
        arguments.append("observation")
    action = interface.action
    lines.append(f"{action.declaration()};")
    arguments.append("&action" if action.is_scalar else "action")
    lines += [
        f"if (!{name}_act({', '.join(arguments)})) {{",
        "    /* a sensor failed: the action is the safe one */",
        "}",
    ]
    return "\n".join(lines)
