"""The loop that works on several jobs at a time."""

from __future__ import annotations

import time
from typing import Protocol

POLL_S = 0.25
"""Time between two looks at the jobs, in seconds."""
_LOOK_S = 2.0
"""Time between two looks for what other processes have left, in seconds."""


class Job(Protocol):
    """Processes that train, and what is done with their results."""

    def advance(self) -> bool:
        """Do what can be done without waiting; return whether the job has ended."""
        ...

    def stop(self) -> None:
        """Ask its processes to stop."""
        ...

    def close(self) -> None:
        """Wait until its processes have ended, and give its lease back."""
        ...


class Source(Protocol):
    """Where jobs come from: work that other processes may do as well."""

    def next_job(self) -> Job | None:
        """The next job; None if there is none, or other processes do all that is left."""
        ...

    def is_done(self) -> bool:
        """Whether everything is done, by any process."""
        ...


def work(source: Source, parallel: int) -> None:
    """Do the jobs of a source until everything is done; wait for those that other processes do.

    Args:
        source: Gives the jobs.
        parallel: Number of jobs at the same time.
    """
    active: list[Job] = []
    next_look = 0.0
    try:
        while True:
            if len(active) < parallel and time.monotonic() >= next_look:
                job = source.next_job()
                if job is not None:
                    active.append(job)
                    continue
                next_look = time.monotonic() + _LOOK_S
            if not active and source.is_done():
                return
            time.sleep(POLL_S)
            for job in [each for each in active if each.advance()]:
                active.remove(job)
                job.close()
                next_look = 0.0
    finally:
        for job in active:
            job.stop()
        for job in active:
            job.close()
