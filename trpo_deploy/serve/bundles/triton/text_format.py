"""Protocol Buffers' text format, as Triton reads its configurations.

Specification: https://protobuf.dev/reference/protobuf/textformat-spec/. Written here, since
protobuf's own writer takes generated classes, and those of Triton come with its client only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Message: TypeAlias = Mapping[str, Any]
"""Fields by name. A value is text, a number, a :class:`Symbol` or a message; a list of these is a
repeated field."""


class Symbol(str):
    """The name of an enum's value: text without quotes."""


def to_text(message: Message) -> str:
    """Write a message; a repeated field has a line or block for each value."""
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Message) -> Iterator[str]:
    for name, value in message.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Mapping):
                inside = [f"  {line}" for line in _lines(each)]
                yield from [f"{name} {{", *inside, "}"] if inside else [f"{name} {{ }}"]
            else:
                yield f"{name}: {_scalar(each)}"


def _scalar(value: str | int | bool) -> str:
    if isinstance(value, Symbol):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)  # its escapes are the format's, too
