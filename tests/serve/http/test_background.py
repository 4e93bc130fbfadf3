"""A background task cannot stop another, and readiness tells if one does not work."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from threading import Event

import pytest

from tests.runtime.policy_files import write_policy
from trpo_deploy.serve.http import background as module
from trpo_deploy.serve.http import health
from trpo_deploy.serve.http.background import BackgroundTasks
from trpo_deploy.serve.models.own_registry import own_registry
from trpo_deploy.serve.settings import Settings

PAUSE_S = 0.01


async def wait_for(condition: object) -> None:
    for _ in range(1000):
        if condition():  # type: ignore[operator]
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("error", [OSError("x"), RecursionError("x"), MemoryError(), KeyError(1)])
def test_a_failing_task_goes_on_and_logs_each_error_once(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    rounds: list[int] = []

    async def step() -> None:
        rounds.append(len(rounds))
        if len(rounds) <= 5:
            raise error

    async def main() -> None:
        tasks = BackgroundTasks()
        tasks.start("models", step, PAUSE_S)
        await wait_for(lambda: len(rounds) > 8)
        assert tasks.overdue() == []
        tasks.stop()

    asyncio.run(main())
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
        "models failed and will be tried again"
    ]


def test_a_hanging_task_stops_no_other_and_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_OVERDUE_S", 0.2)
    path = write_policy(tmp_path / "cart" / "policy.onnx")
    registry, _ = own_registry(Settings(models=(path,)))
    released, keys = Event(), []

    async def main() -> None:
        tasks = BackgroundTasks()
        monkeypatch.setattr(health, "background", tasks)
        tasks.start_in_thread("models", lambda: released.wait(60), PAUSE_S)
        tasks.start_in_thread("keys", lambda: keys.append(1), PAUSE_S)
        assert health.ready(registry, with_models=False).status == 200
        await wait_for(lambda: tasks.overdue() == ["models"])
        before = len(keys)
        await wait_for(lambda: len(keys) > before + 3)
        reply = health.ready(registry, with_models=False)
        assert reply.status == 503
        assert b'"overdue_tasks":["models"]' in reply.body
        released.set()
        await wait_for(lambda: health.ready(registry, with_models=False).status == 200)
        tasks.stop()

    asyncio.run(main())


def test_a_task_that_has_ended_is_reported() -> None:
    async def main() -> None:
        tasks = BackgroundTasks()

        async def step() -> None:
            raise asyncio.CancelledError

        tasks.start("keys", step)
        await wait_for(lambda: tasks.overdue() == ["keys"])

    asyncio.run(main())


def test_look_now_ends_the_pause() -> None:
    rounds: list[int] = []

    async def step() -> None:
        rounds.append(1)

    async def main() -> None:
        tasks = BackgroundTasks()
        tasks.start("models", step, 3600)
        await wait_for(lambda: len(rounds) == 1)
        tasks.look_now("models")
        tasks.look_now("unknown")
        await wait_for(lambda: len(rounds) == 2)
        tasks.stop()

    asyncio.run(main())
