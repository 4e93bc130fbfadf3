"""Single observations that arrive together are answered by one run of the policy.

Of the time that a small policy takes, most is spent on getting in and out of onnxruntime: eight
observations cost little more than one. So where several clients ask at once, what arrived within
one turn of the event loop is run together; nobody waits for anything that has not arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.serve.messages import Reply
from trpo_deploy.spec.spaces import Array

_MOST = 64
"""Observations in one run."""
_SMALL_BYTES = 4096
"""Larger inputs (images) take their time for each observation: together they would only wait."""
_PAUSE = 32
"""Requests that are answered at once after two in a row that waited and stayed alone."""


@dataclass(slots=True)
class Question:
    """A request that has been checked: what to run, and how to answer it."""

    policy: OnnxPolicy
    outputs: tuple[str, ...]
    inputs: Mapping[str, Array]
    reply: Callable[[list[Array]], Reply]
    """Makes the answer out of the outputs."""

    def answer(self) -> Reply:
        """Run it alone."""
        return self.reply(self.policy.run(list(self.outputs), self.inputs))

    def is_small(self) -> bool:
        """Whether it is one observation of a few numbers."""
        for array in self.inputs.values():
            if len(array) != 1 or array.nbytes > _SMALL_BYTES:
                return False
        return True


_Waiting: TypeAlias = "tuple[Question, asyncio.Future[list[Array]]]"


class Gatherer:
    """Answers questions, those that arrive together at once; for one event loop."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._alone = False
        self._pause = 0

    async def answer(self, question: Question) -> Reply:
        """The answer, after what else arrived in this turn of the event loop has been read.

        Waiting for that costs a client that is alone a fifth of its time. So after two requests
        that stayed alone the next ones do not wait.
        """
        if not question.is_small():
            return question.answer()
        if self._pause:
            self._pause -= 1
            return question.answer()
        loop = asyncio.get_running_loop()
        outputs: asyncio.Future[list[Array]] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._run)
        self._waiting.append((question, outputs))
        if len(self._waiting) == _MOST:
            self._run()
        return question.reply(await outputs)

    def _run(self) -> None:
        """Run what waits, each policy once."""
        waiting, self._waiting = self._waiting, []
        before, self._alone = self._alone, len(waiting) == 1
        if before and self._alone:
            self._pause = _PAUSE
        groups: dict[object, list[_Waiting]] = {}
        for question, outputs in waiting:
            group = groups.setdefault((question.policy, question.outputs), [])
            group.append((question, outputs))
        for group in groups.values():
            _run_together(group)


def _run_together(group: list[_Waiting]) -> None:
    """Run questions to one policy, and give each its row of the outputs."""
    first = group[0][0]
    inputs = {
        name: np.concatenate([question.inputs[name] for question, _ in group])
        for name in first.inputs
    }
    arrays: list[Array] = []
    error: Exception | None = None
    try:
        arrays = first.policy.run(list(first.outputs), inputs)
    except Exception as caught:  # onnxruntime's share no base; everyone who asked hears of it
        error = caught
    for row, (_, outputs) in enumerate(group):
        if outputs.cancelled():
            continue
        if error is not None:
            outputs.set_exception(error)
        else:
            outputs.set_result([array[row : row + 1] for array in arrays])
