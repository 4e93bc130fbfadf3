"""Micro-batching: single observations that arrive together share one run of the policy.

For a small policy most of the time of a run is spent on entering and leaving onnxruntime: eight
observations cost little more than one. Requests that arrive in the same turn of the event loop
therefore share a run. There is no waiting time.
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

MAX_BATCH = 64
"""Maximum number of observations in one run."""
MAX_INPUT_BYTES = 4096
"""Larger inputs (images) run alone: their cost grows with the batch, so sharing only adds delay."""
INLINE_BYTES = 256 * 1024
"""Larger requests may take milliseconds, so a thread answers them and the loop stays free."""
_SINGLE_RUNS = 32
"""Number of requests that run at once after two in a row found no other to share with."""


@dataclass(slots=True)
class InferenceJob:
    """A validated request: what to run, and how to make the reply."""

    policy: OnnxPolicy
    outputs: tuple[str, ...]
    inputs: Mapping[str, Array]
    make_reply: Callable[[list[Array]], Reply]
    """Makes the reply from the outputs."""

    def run(self) -> Reply:
        """Run this job alone."""
        return self.make_reply(self.policy.run(list(self.outputs), self.inputs))

    def can_share(self) -> bool:
        """Whether the job is a single small observation."""
        for array in self.inputs.values():
            if len(array) != 1 or array.nbytes > MAX_INPUT_BYTES:
                return False
        return True


_Waiting: TypeAlias = "tuple[InferenceJob, asyncio.Future[list[Array]]]"


class Batcher:
    """Runs jobs; those of the same turn of the event loop together. For one event loop."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._alone = False
        self._single_runs = 0

    @property
    def waiting(self) -> int:
        """Number of jobs that wait for the end of this turn."""
        return len(self._waiting)

    async def run(self, job: InferenceJob) -> Reply:
        """Run a job, together with those that arrive in this turn of the event loop.

        Waiting for the turn to end costs a lone client a fifth of its time. After two requests in
        a row that stayed alone, the next ones run at once.
        """
        if not job.can_share():
            return job.run()
        if self._single_runs:
            self._single_runs -= 1
            return job.run()
        loop = asyncio.get_running_loop()
        outputs: asyncio.Future[list[Array]] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._run_waiting)
        self._waiting.append((job, outputs))
        if len(self._waiting) == MAX_BATCH:
            self._run_waiting()
        return job.make_reply(await outputs)

    def _run_waiting(self) -> None:
        """Run the waiting jobs, each policy once."""
        waiting, self._waiting = self._waiting, []
        before, self._alone = self._alone, len(waiting) == 1
        if before and self._alone:
            self._single_runs = _SINGLE_RUNS
        groups: dict[object, list[_Waiting]] = {}
        for job, outputs in waiting:
            groups.setdefault((job.policy, job.outputs), []).append((job, outputs))
        for group in groups.values():
            _run_together(group)


def _run_together(group: list[_Waiting]) -> None:
    """Run jobs of one policy, and give each its row of the outputs."""
    first = group[0][0]
    inputs = {name: np.concatenate([job.inputs[name] for job, _ in group]) for name in first.inputs}
    arrays: list[Array] = []
    error: Exception | None = None
    try:
        arrays = first.policy.run(list(first.outputs), inputs)
    except Exception as caught:  # onnxruntime's exceptions have no public base class
        error = caught
    for row, (_, outputs) in enumerate(group):
        if outputs.cancelled():
            continue
        if error is not None:
            outputs.set_exception(error)
        else:
            outputs.set_result([array[row : row + 1] for array in arrays])
