"""Faults of a robot's sensors and of its network, by schedule."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from link import pack_observation

KINDS = ("lost", "late", "doubled", "nan", "frozen")
"""``late``: two periods later, after newer ones. ``frozen``: the last message again."""
_LATE = 2


@dataclass(frozen=True)
class Fault:
    """A kind of fault, from one step on, for some steps."""

    kind: str
    start: int
    steps: int

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read ``KIND:START:STEPS``."""
        kind, *numbers = text.split(":")
        if kind not in KINDS or len(numbers) != 2 or not all(map(str.isdecimal, numbers)):
            raise ArgumentTypeError(
                f"expected KIND:START:STEPS with a KIND of {', '.join(KINDS)}, received {text!r}"
            )
        return cls(kind, *map(int, numbers))


class FaultyNetwork:
    """What arrives of the observations that a robot sends."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = faults
        self._delayed: list[tuple[int, bytes]] = []
        self._last = b""

    def send(self, step: int, stamp: float, values: Sequence[float]) -> Iterator[bytes]:
        """The messages that arrive in a step, in order."""
        kind = next(
            (each.kind for each in self._faults if 0 <= step - each.start < each.steps), None
        )
        message = pack_observation(stamp, [math.nan] * len(values) if kind == "nan" else values)
        if kind == "late":
            self._delayed.append((step + _LATE, message))
        elif kind == "frozen":
            yield self._last
        elif kind != "lost":
            self._last = message
            yield message
            if kind == "doubled":
                yield message
        yield from (each for due, each in self._delayed if due == step)
