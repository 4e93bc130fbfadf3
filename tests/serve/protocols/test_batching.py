"""Requests that arrive together share a run; a lone request does not wait."""

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
    """A policy that records the number of observations of each run."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.runs: list[int] = []

    def run(self, outputs: list[str], inputs: Mapping[str, Array]) -> list[Array]:
        self.runs.append(len(inputs["obs"]))
        return super().run(outputs, inputs)


@pytest.fixture
def policy(tmp_path: Path) -> Counting:
    return Counting(write_policy(tmp_path / "policy.onnx"))


def job(policy: OnnxPolicy, observations: Array) -> InferenceJob:
    return InferenceJob(
        policy, ("action",), {"obs": observations}, lambda outputs: Reply(outputs[0].tobytes())
    )


def bodies(answers: list[Reply | BaseException]) -> list[bytes]:
    return [answer.body for answer in answers if isinstance(answer, Reply)]


def together(*answers: Coroutine[Any, Any, Reply]) -> list[Reply | BaseException]:
    """Results of coroutines that start in the same turn of an event loop."""

    async def gather() -> list[Reply | BaseException]:
        return await asyncio.gather(*answers, return_exceptions=True)

    return asyncio.run(gather())


def rows(count: int) -> list[Array]:
    return list(np.random.default_rng(0).normal(size=(count, 1, 4)).astype(np.float32))


def test_jobs_of_one_turn_share_a_run_and_get_the_results_of_single_runs(policy: Counting) -> None:
    alone = [job(policy, row).run().body for row in rows(8)]
    assert len(set(alone)) == 8
    policy.runs.clear()
    batcher = Batcher()
    answers = together(*(batcher.run(job(policy, row)) for row in rows(8)))
    assert bodies(answers) == alone
    assert policy.runs == [8]


@pytest.mark.parametrize(
    ("inputs", "hidden"), [(4, 0), (17, 64), (33, 100), (105, 400), (376, 1024)]
)
def test_a_row_has_the_same_bits_alone_and_in_a_batch(
    inputs: int, hidden: int, tmp_path: Path
) -> None:
    """Batching relies on this: onnxruntime's products do not depend on the batch size."""
    action = box(6, low=-9, high=9)
    policy = OnnxPolicy(write_policy(tmp_path / "p.onnx", box(inputs), action, hidden=hidden))
    batch = np.random.default_rng(1).normal(size=(64, inputs)).astype(np.float32)
    alone = np.stack([policy.predict(row)[0] for row in batch])
    assert len(np.unique(alone, axis=0)) == 64
    for count in (2, 3, 7, 8, 13, 32, 64):
        np.testing.assert_array_equal(policy.predict(batch[:count])[0], alone[:count])


def test_each_policy_runs_only_its_own_jobs(policy: Counting, tmp_path: Path) -> None:
    other = Counting(write_policy(tmp_path / "other" / "policy.onnx"))
    batcher = Batcher()
    together(*(batcher.run(job(p, row)) for row in rows(3) for p in (policy, other)))
    assert policy.runs == other.runs == [3]


def test_more_jobs_than_the_maximum_batch_run_in_parts(policy: Counting) -> None:
    batcher = Batcher()
    answers = together(*(batcher.run(job(policy, row)) for row in rows(150)))
    assert policy.runs == [64, 64, 22]
    assert bodies(answers) == [job(policy, row).run().body for row in rows(150)]


def test_a_lone_client_waits_only_twice_in_34_requests(policy: Counting) -> None:
    batcher = Batcher()

    async def waits() -> bool:
        task = asyncio.ensure_future(batcher.run(job(policy, rows(1)[0])))
        await asyncio.sleep(0)  # one turn: enough for a job that does not wait
        waited = not task.done()
        await task
        return waited

    async def send_99() -> list[bool]:
        return [await waits() for _ in range(99)]

    assert sum(asyncio.run(send_99())) == 4


def test_batches_and_images_run_alone(policy: Counting, tmp_path: Path) -> None:
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


def test_a_failed_run_fails_all_of_its_jobs(policy: Counting) -> None:
    batcher = Batcher()
    wrong = [row[:, :3] for row in rows(2)]
    answers = together(*(batcher.run(job(policy, row)) for row in wrong))
    assert all(isinstance(answer, Exception) for answer in answers)
    good = together(batcher.run(job(policy, rows(1)[0])))
    assert isinstance(good[0], Reply)


def test_a_cancelled_job_does_not_affect_the_others(policy: Counting) -> None:
    batcher = Batcher()

    async def leave() -> list[Reply]:
        tasks = [asyncio.ensure_future(batcher.run(job(policy, row))) for row in rows(3)]
        asyncio.get_running_loop().call_soon(tasks[1].cancel)
        return [await tasks[0], await tasks[2]]

    want = [job(policy, row).run().body for row in (rows(3)[0], rows(3)[2])]
    assert [reply.body for reply in asyncio.run(leave())] == want


def test_concurrent_clients_receive_their_own_answers(server: Server, models: Path) -> None:
    policy = OnnxPolicy(models / "box" / "policy.onnx")
    observations = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)

    def answer(index: int) -> bool:
        if index % 10 == 0:  # an invalid request among them
            return server.predict([1, 2], model="box").status_code == 422
        response = server.predict(observations[index].tolist(), model="box")
        action = np.asarray(response.json()["action"], np.float32)
        return bool((action == policy.predict(observations[index])[0]).all())

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(answer, range(200)))
