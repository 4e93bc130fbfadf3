"""Requests that arrive together share a run; none waits for what may never come."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.policy_files import IMAGE, box, write_policy
from tests.serve.server import Server
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.serve.messages import Reply
from trpo_deploy.serve.protocols.batching import Batcher, InferenceJob
from trpo_deploy.spec.spaces import Array


class Counting(OnnxPolicy):
    """A policy that notes how many observations each of its runs had."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.runs: list[int] = []

    def run(self, outputs: list[str], inputs: Mapping[str, Array]) -> list[Array]:
        self.runs.append(len(inputs["obs"]))
        return super().run(outputs, inputs)


@pytest.fixture
def policy(tmp_path: Path) -> Counting:
    return Counting(write_policy(tmp_path / "policy.onnx"))


def ask(policy: OnnxPolicy, observations: Array) -> InferenceJob:
    return InferenceJob(
        policy, ("action",), {"obs": observations}, lambda outputs: Reply(outputs[0].tobytes())
    )


def together(*answers: Coroutine[Any, Any, Reply]) -> list[Any]:
    """What questions that are asked in one turn of an event loop are answered."""

    async def gather() -> list[Any]:
        return await asyncio.gather(*answers, return_exceptions=True)

    return asyncio.run(gather())


def rows(count: int) -> list[Array]:
    return list(np.random.default_rng(0).normal(size=(count, 1, 4)).astype(np.float32))


def test_what_arrives_together_is_run_together_and_answered_as_if_alone(policy: Counting) -> None:
    alone = [ask(policy, row).run().body for row in rows(8)]
    assert len(set(alone)) == 8
    policy.runs.clear()
    batcher = Batcher()
    answers = together(*(batcher.run(ask(policy, row)) for row in rows(8)))
    assert [answer.body for answer in answers] == alone
    assert policy.runs == [8]


@pytest.mark.parametrize(
    ("inputs", "hidden"), [(4, 0), (17, 64), (33, 100), (105, 400), (376, 1024)]
)
def test_a_row_has_the_same_bits_alone_and_in_company(
    inputs: int, hidden: int, tmp_path: Path
) -> None:
    """What gathering rests on: onnxruntime's products do not vary with the batch."""
    action = box(6, low=-9, high=9)
    policy = OnnxPolicy(write_policy(tmp_path / "p.onnx", box(inputs), action, hidden=hidden))
    batch = np.random.default_rng(1).normal(size=(64, inputs)).astype(np.float32)
    alone = np.stack([policy.predict(row)[0] for row in batch])
    assert len(np.unique(alone, axis=0)) == 64
    for count in (2, 3, 7, 8, 13, 32, 64):
        np.testing.assert_array_equal(policy.predict(batch[:count])[0], alone[:count])


def test_each_policy_runs_its_own(policy: Counting, tmp_path: Path) -> None:
    other = Counting(write_policy(tmp_path / "other" / "policy.onnx"))
    batcher = Batcher()
    together(*(batcher.run(ask(p, row)) for row in rows(3) for p in (policy, other)))
    assert policy.runs == other.runs == [3]


def test_a_crowd_is_run_in_parts(policy: Counting) -> None:
    batcher = Batcher()
    answers = together(*(batcher.run(ask(policy, row)) for row in rows(150)))
    assert policy.runs == [64, 64, 22]
    assert [a.body for a in answers] == [ask(policy, row).run().body for row in rows(150)]


def test_a_client_that_is_alone_hardly_ever_waits(policy: Counting) -> None:
    batcher = Batcher()

    async def waits() -> bool:
        task = asyncio.ensure_future(batcher.run(ask(policy, rows(1)[0])))
        await asyncio.sleep(0)  # one turn: enough for a question that does not wait
        waited = not task.done()
        await task
        return waited

    async def ask_on() -> list[bool]:
        return [await waits() for _ in range(99)]

    assert sum(asyncio.run(ask_on())) == 4


def test_batches_and_images_do_not_wait(policy: Counting, tmp_path: Path) -> None:
    camera = Counting(write_policy(tmp_path / "camera" / "policy.onnx", IMAGE))
    large = np.zeros((1, 12, 12, 3), np.uint8).repeat(12, axis=1)
    assert large.nbytes > 4096
    batch = InferenceJob(policy, ("action",), {"obs": np.zeros((2, 4), np.float32)}, _nothing)
    image = InferenceJob(camera, ("action",), {"obs": large}, _nothing)
    assert not batch.can_share()
    assert not image.can_share()
    batcher = Batcher()
    together(*(batcher.run(batch) for _ in range(3)))
    assert policy.runs == [2, 2, 2]


def _nothing(_: list[Array]) -> Reply:
    return Reply(b"")


def test_a_run_that_fails_fails_for_everyone_who_asked(policy: Counting) -> None:
    batcher = Batcher()
    wrong = [row[:, :3] for row in rows(2)]
    answers = together(*(batcher.run(ask(policy, row)) for row in wrong))
    assert all(isinstance(answer, Exception) for answer in answers)
    good = together(batcher.run(ask(policy, rows(1)[0])))
    assert isinstance(good[0], Reply)


def test_who_leaves_does_not_take_the_others_answers_along(policy: Counting) -> None:
    batcher = Batcher()

    async def leave() -> list[Reply]:
        tasks = [asyncio.ensure_future(batcher.run(ask(policy, row))) for row in rows(3)]
        asyncio.get_running_loop().call_soon(tasks[1].cancel)
        return [await tasks[0], await tasks[2]]

    want = [ask(policy, row).run().body for row in (rows(3)[0], rows(3)[2])]
    assert [reply.body for reply in asyncio.run(leave())] == want


def test_concurrent_clients_get_their_own_answers(server: Server, models: Path) -> None:
    policy = OnnxPolicy(models / "box" / "policy.onnx")
    observations = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)

    def answer(index: int) -> bool:
        if index % 10 == 0:  # a bad one among them
            return server.predict([1, 2], model="box").status_code == 422
        response = server.predict(observations[index].tolist(), model="box")
        action = np.float32(response.json()["action"])
        return bool((action == policy.predict(observations[index])[0]).all())

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(answer, range(200)))
