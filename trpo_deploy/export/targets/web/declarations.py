"""The file ``NAME.d.ts``: the types of a module, for TypeScript and editors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trpo_deploy.export.targets.web.interface import Input, has_keys, read_inputs
from trpo_deploy.export.targets.web.literals import array_type, comment, string
from trpo_deploy.spec.policy_spec import PolicySpec


def declarations_text(spec: PolicySpec, name: str) -> str:
    """The text of ``NAME.d.ts``."""
    return f"""\
/** Numbers in the shape of the space, or row after row. */
export type Numbers<T = number> = ArrayLike<T> | readonly Numbers<T>[];

{_observation(spec)}

/** {comment(spec.action_space.describe())} */
export type Action = number{"[]" * len(spec.action_space.shape)};

/** Spaces, names, units, period: the part of `policy.json` that a program needs. */
export interface Spec {{
  readonly observation_space: Readonly<Record<string, unknown>>;
  readonly action_space: Readonly<Record<string, unknown>>;
  readonly [key: string]: unknown;
}}

export declare class Policy {{
  readonly spec: Spec;
{_frames(spec)}  /**
   * The action for a raw observation.
   * @throws TypeError for a wrong type or key.
   * @throws RangeError for a wrong length, for a number that is not finite or not in its range,
   * and if the network overflows.
   */
  act(observation: Observation): Action;
  /** Start an episode: earlier frames, if the policy stacks frames, become zeros. */
  reset(): void;
  /** The largest error over the golden rows, as a part of the action's range. */
  selfTest(): number;
}}

/** The global of `{name}.global.js`. */
export as namespace {name};
"""


def _observation(spec: PolicySpec) -> str:
    inputs = list(read_inputs(spec))
    if not has_keys(spec):
        (only,) = inputs
        return f"{_about(only)}\nexport type Observation = {_type(only)};"
    members = "\n".join(
        f"  {_about(each)}\n  readonly {string(each.key)}: {_type(each)};" for each in inputs
    )
    return f"export interface Observation {{\n{members}\n}}"


def _about(each: Input) -> str:
    return f"/** {comment(each.space.describe())} */"


def _type(each: Input) -> str:
    number = "number | boolean" if each.is_flag else "number"
    if not each.space.shape:
        return number
    container = "ArrayLike" if len(each.space.shape) == 1 else "Numbers"
    return f"{container}<{number}>"


def _frames(spec: PolicySpec) -> str:
    return "".join(_lines_of_frames(spec))


def _lines_of_frames(spec: PolicySpec) -> Iterator[str]:
    if not spec.states:
        return
    yield "  /** Earlier frames, oldest first, which `act` updates. Copy them to save them. */\n"
    yield "  readonly frames: {\n"
    for state in spec.states:
        kind = array_type(np.dtype(state.input.dtype))
        yield f"    readonly {string(state.input.key)}: {kind};\n"
    yield "  };\n"
