"""The environment that a policy was trained in, as plain values that a file can carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trpo_deploy.spec.codec import Json, plain_from_json, plain_to_json


@dataclass(frozen=True)
class WrapperSpec:
    """A ``gymnasium.Wrapper`` around the environment."""

    name: str
    """``package.module:Class``."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments, plain values."""

    def __str__(self) -> str:
        return f"{self.name}({_arguments_text(self.arguments)})"


@dataclass(frozen=True)
class EnvironmentSpec:
    """What ``gymnasium.make`` and the wrappers after it need to make the environment again."""

    id: str
    """The Gymnasium id, ``Name-v0`` or ``module:Name-v0``."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of ``gymnasium.make``, plain values."""
    wrappers: tuple[WrapperSpec, ...] = ()
    """Innermost first."""
    frame_stack: int = 1
    """Observations that the training stacked into one; 1 without a stack."""
    unrecorded: tuple[str, ...] | None = ()
    """Arguments and wrappers that JSON cannot represent. ``None`` if only the id is known,
    as in files of format 1."""

    def __str__(self) -> str:
        text = self.id
        if self.arguments:
            text += f"({_arguments_text(self.arguments)})"
        text += "".join(f" in {wrapper}" for wrapper in self.wrappers)
        if self.frame_stack > 1:
            text += f", {self.frame_stack} frames stacked"
        if self.unrecorded:
            text += f", not recorded: {', '.join(self.unrecorded)}"
        return text

    def to_json(self) -> Json:
        """The environment as JSON values.

        Raises:
            TypeError: an argument is not a plain value.
        """
        return {
            "id": self.id,
            "arguments": plain_to_json(self.arguments),
            "wrappers": [
                {"name": wrapper.name, "arguments": plain_to_json(wrapper.arguments)}
                for wrapper in self.wrappers
            ],
            "frame_stack": self.frame_stack,
            "unrecorded": None if self.unrecorded is None else list(self.unrecorded),
        }


def environment_from_json(value: Json) -> EnvironmentSpec:
    """Read what :meth:`EnvironmentSpec.to_json` wrote.

    Raises:
        KeyError: an entry is missing.
        TypeError: an entry has the wrong type.
    """
    unrecorded = value["unrecorded"]
    found = EnvironmentSpec(
        id=value["id"],
        arguments=plain_from_json(value["arguments"]),
        wrappers=tuple(
            WrapperSpec(wrapper["name"], plain_from_json(wrapper["arguments"]))
            for wrapper in value["wrappers"]
        ),
        frame_stack=value["frame_stack"],
        unrecorded=None if unrecorded is None else tuple(unrecorded),
    )
    mappings = (found.arguments, *(wrapper.arguments for wrapper in found.wrappers))
    texts = (found.id, *(wrapper.name for wrapper in found.wrappers), *(found.unrecorded or ()))
    if not (
        all(isinstance(mapping, dict) for mapping in mappings)
        and all(isinstance(text, str) for text in texts)
        and isinstance(found.frame_stack, int)
    ):
        raise TypeError(f"not an environment: {value!r:.200}")
    return found


def _arguments_text(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())
