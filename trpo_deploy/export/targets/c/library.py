"""Run a folder of C files on this machine: compile ``NAME.c`` and call ``NAME_act``."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from trpo_deploy.export.certify.batches import size_of
from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.export.policy.outputs import OBS_OK
from trpo_deploy.export.targets.c.compiler import Compiler
from trpo_deploy.export.targets.c.interface import Interface, Member
from trpo_deploy.spec.policy_spec import ACTION, Inputs, PolicySpec
from trpo_deploy.spec.spaces import Array

_CTYPES: dict[str, Any] = {
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    **{f"{name}_t": getattr(ctypes, f"c_{name}") for name in ("int8", "int16", "int32", "int64")},
    **{f"u{name}_t": getattr(ctypes, f"c_u{name}") for name in ("int8", "int16", "int32")},
}


def load_engine(folder: Path, name: str, spec: PolicySpec) -> Engine:
    """The policy as compiled C.

    Args:
        folder: Folder with ``NAME.c`` and ``NAME.h``.
        name: Name of the policy.
        spec: The policy's spec.

    Raises:
        ToolMissingError: This machine has no C compiler.
        ExportError: The files cannot be compiled.
    """
    compiler = Compiler.find()
    act = load_act(compiler, folder, name)
    interface = Interface.of(spec, name)

    def run(batch: Inputs) -> dict[str, Array]:
        return _run(interface, act, spec, batch)

    states = (state.output for state in spec.states)
    return Engine(
        f"c99 ({compiler.name})",
        None,
        run,
        is_slow=False,
        outputs=frozenset({ACTION, OBS_OK, *states}),
        refuses_infinity=True,
    )


def load_act(compiler: Compiler, folder: Path, name: str, *options: str) -> Callable[..., bool]:
    """The function ``NAME_act``, compiled with some more options.

    Raises:
        ExportError: The files cannot be compiled.
    """
    with TemporaryDirectory(prefix="trpo-deploy-") as temporary:
        library = Path(temporary, "policy.so")
        compiler.compile(folder / f"{name}.c", library, "-O2", "-shared", "-fPIC", *options)
        act: Any = getattr(ctypes.CDLL(str(library)), f"{name}_act")
    act.restype = ctypes.c_bool
    checked: Callable[..., bool] = act
    return checked


def _run(
    interface: Interface, act: Callable[..., bool], spec: PolicySpec, batch: Inputs
) -> dict[str, Array]:
    """Call ``NAME_act`` for each row."""
    rows = size_of(batch)
    usable = np.empty(rows, np.bool_)
    actions = np.empty((rows, interface.action.size), _CTYPES[interface.action.ctype])
    frames = {each.key: _copied(batch[each.key], each) for each in interface.states}
    observed = {each.key: _copied(batch[each.key], each) for each in interface.observations}
    for row in range(rows):
        arguments = [_observation(interface, observed, row)]
        if interface.states:
            state = _structure(interface.states, frames, row)
            arguments.insert(0, ctypes.byref(state))
        usable[row] = act(*arguments, actions[row].ctypes.data_as(ctypes.c_void_p))
        for each in interface.states:
            frames[each.key][row] = np.ctypeslib.as_array(getattr(state, each.name))
    space = spec.action_space
    following = {
        each.output: frames[each.input.name].reshape(rows, *each.input.shape)
        for each in spec.states
    }
    action = actions.astype(space.dtype).reshape(rows, *space.shape)
    return {ACTION: action, OBS_OK: usable, **following}


def _copied(values: Array, member: Member) -> Array:
    with np.errstate(over="ignore"):
        rows = np.array(values, dtype=_CTYPES[member.ctype], order="C")
    return rows.reshape(len(rows), member.size)


def _observation(interface: Interface, observed: Inputs, row: int) -> Any:
    if interface.has_keys:
        return ctypes.byref(_structure(interface.observations, observed, row))
    only = interface.observations[0]
    values = observed[only.key][row]
    if only.is_scalar:
        return _CTYPES[only.ctype](values[0].item())
    return values.ctypes.data_as(ctypes.c_void_p)


def _structure(members: tuple[Member, ...], arrays: Inputs, row: int) -> ctypes.Structure:
    """A struct with one row of each member."""
    structure = _structure_type(members)()
    for each in members:
        values = arrays[each.key][row]
        place = ctypes.addressof(structure) + getattr(type(structure), each.name).offset
        ctypes.memmove(place, values.ctypes.data, values.nbytes)
    return structure


def _structure_type(members: tuple[Member, ...]) -> type[ctypes.Structure]:
    fields = [
        (each.name, _CTYPES[each.ctype] * (1 if each.is_scalar else each.size)) for each in members
    ]
    return type("Members", (ctypes.Structure,), {"_fields_": fields})
