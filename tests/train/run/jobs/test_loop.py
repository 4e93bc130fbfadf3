"""The loop over jobs: some at a time, until everything is done by any process."""

from __future__ import annotations

import pytest

from trpo_deploy.train.run.jobs import loop
from trpo_deploy.train.run.jobs.loop import work


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "POLL_S", 0.0)
    monkeypatch.setattr(loop, "_LOOK_S", 0.0)


class CountedJob:
    """A job that ends after three looks."""

    def __init__(self, source: Jobs) -> None:
        self._source = source
        self._looks = 0
        source.active += 1
        source.most = max(source.most, source.active)

    def advance(self) -> bool:
        self._looks += 1
        if self._looks == self._source.interrupt_at:
            raise KeyboardInterrupt
        return self._looks == 3

    def stop(self) -> None:
        self._source.stopped += 1

    def close(self) -> None:
        self._source.active -= 1


class Jobs:
    """Five jobs; other processes take some time longer for theirs."""

    def __init__(self, interrupt_at: int = -1) -> None:
        self.interrupt_at = interrupt_at
        self.left, self.active, self.most, self.stopped, self.waits = 5, 0, 0, 0, 0

    def next_job(self) -> CountedJob | None:
        self.left -= 1
        return CountedJob(self) if self.left >= 0 else None

    def is_done(self) -> bool:
        assert self.active == 0
        self.waits += 1
        return self.waits == 4


def test_so_many_jobs_at_a_time_until_all_processes_are_done() -> None:
    jobs = Jobs()
    work(jobs, 2)
    assert (jobs.most, jobs.active, jobs.waits, jobs.stopped) == (2, 0, 4, 0)


def test_an_interrupt_stops_and_closes_every_job() -> None:
    jobs = Jobs(interrupt_at=2)
    with pytest.raises(KeyboardInterrupt):
        work(jobs, 3)
    assert (jobs.stopped, jobs.active) == (3, 0)
