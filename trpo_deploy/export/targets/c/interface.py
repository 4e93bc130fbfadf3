"""The C types of a policy's observation, earlier frames and action."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trpo_deploy.errors import ExportError
from trpo_deploy.export.targets.names import identifiers
from trpo_deploy.spec.policy_spec import PolicySpec, StateSpec
from trpo_deploy.spec.spaces import (
    BoxSpace,
    DictSpace,
    DiscreteSpace,
    MultiBinarySpace,
    MultiDiscreteSpace,
    Space,
)

C_TYPES: Mapping[str, str] = {
    "float32": "float",
    "float64": "double",
    "bool": "uint8_t",
    **{name: f"{name}_t" for name in ("int8", "int16", "int32", "uint8", "uint16", "uint32")},
    "int64": "int64_t",
}
"""By dtype. A boolean is a byte: to read a ``bool`` that is neither 0 nor 1 is undefined."""


@dataclass(frozen=True, eq=False)
class Member:
    """One array of the observation, of the earlier frames, or the action."""

    key: str
    name: str
    """Its name in C."""
    ctype: str
    shape: tuple[int, ...]
    label: str
    """What the names of its constants begin with, after the policy's: ``observation_KEY``."""
    space: Space | None = None
    """``None`` for earlier frames."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_scalar(self) -> bool:
        """Whether it is a single number rather than an array."""
        return self.shape == ()

    def declaration(self) -> str:
        """The member in a struct."""
        return f"{self.ctype} {self.name}" + ("" if self.is_scalar else f"[{self.size}]")

    @property
    def limits(self) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], ...] | None:
        """Smallest and largest legal integers, flat; ``None`` if all are legal."""
        space = self.space
        if isinstance(space, (DiscreteSpace, MultiDiscreteSpace)):
            count = space.n if isinstance(space, DiscreteSpace) else space.nvec
            low = np.broadcast_to(np.asarray(space.start, np.int64), self.shape).reshape(-1)
            return low, low + np.asarray(count, np.int64).reshape(-1) - 1
        is_flag = isinstance(space, BoxSpace) and space.dtype == np.bool_
        if isinstance(space, MultiBinarySpace) or is_flag:
            return np.zeros(self.size, np.int64), np.ones(self.size, np.int64)
        return None


@dataclass(frozen=True, eq=False)
class Interface:
    """The types of the function ``NAME_act``."""

    name: str
    """Prefix of all names."""
    observations: tuple[Member, ...]
    has_keys: bool
    """Whether the observation is a struct."""
    states: tuple[Member, ...]
    action: Member

    @classmethod
    def of(cls, spec: PolicySpec, name: str) -> Interface:
        """The types of a policy.

        Raises:
            ExportError: C cannot name a key of the observation, or has no type for it.
        """
        has_keys = isinstance(spec.observation_space, DictSpace)
        spaces = spec.observation_spaces
        names = identifiers(spaces, "key") if has_keys else dict.fromkeys(spaces, "observation")
        observations = tuple(
            Member(
                key,
                names[key],
                _c_type(space),
                space.shape,
                f"observation_{names[key]}" if has_keys else "observation",
                space,
            )
            for key, space in spaces.items()
        )
        states = tuple(
            _state_member(state, names if has_keys else {}, observations) for state in spec.states
        )
        space = spec.action_space
        action = Member("action", "action", _c_type(space), space.shape, "action", space)
        return cls(name, observations, has_keys, states, action)

    @property
    def macro(self) -> str:
        """Prefix of macros."""
        return self.name.upper()

    def parameters(self) -> str:
        """The parameters of ``NAME_act``."""
        parts = [f"{self.name}_state *state"] if self.states else []
        if self.has_keys:
            parts.append(f"const {self.name}_observation *observation")
        else:
            only = self.observations[0]
            parts.append(("" if only.is_scalar else "const ") + only.declaration())
        action = self.action
        parts.append(f"{action.ctype} *action" if action.is_scalar else action.declaration())
        return ", ".join(parts)

    def array(self, member: Member) -> str:
        """Expression in ``NAME_act`` for the first element's address of an input."""
        if member in self.states:
            return f"state->{member.name}"
        owner = f"observation->{member.name}" if self.has_keys else member.name
        return f"(&{owner})" if member.is_scalar else owner


def _c_type(space: Space) -> str:
    if isinstance(space, (DiscreteSpace, MultiDiscreteSpace)):
        return "int32_t"
    return c_type(str(space.dtype))


def c_type(dtype: str) -> str:
    """The C type of a dtype.

    Raises:
        ExportError: There is none.
    """
    if dtype not in C_TYPES:
        raise ExportError(
            f"this target cannot hold the policy: it has the dtype {dtype}; expected one of "
            f"{', '.join(C_TYPES)}"
        )
    return C_TYPES[dtype]


def _state_member(
    state: StateSpec, names: Mapping[str, str], observations: tuple[Member, ...]
) -> Member:
    """Earlier frames, named like the observation that they belong to."""
    key = state.input.name.removeprefix("state_")
    owner = next((each for each in observations if each.key == key), observations[0])
    name = names.get(key, "frames")
    return Member(state.input.name, name, owner.ctype, state.input.shape, "state")
