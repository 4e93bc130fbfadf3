"""A policy and a session can be copied, pickled, and used in other processes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from tests.runtime.policy_files import box, write_policy
from trpo_deploy.runtime import OnnxPolicy, Session
from trpo_deploy.spec.spaces import Array

OBSERVATION = np.array([0.1, -0.2, 0.3, 0.4], np.float32)
COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
}


@pytest.fixture
def policy(tmp_path: Path) -> OnnxPolicy:
    return OnnxPolicy(write_policy(tmp_path / "p.onnx", distribution=True, hidden=64), seed=5)


def draws(policy: OnnxPolicy, count: int = 20) -> list[bytes]:
    return [policy.predict(OBSERVATION, deterministic=False)[0].tobytes() for _ in range(count)]


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_acts_the_same_without_the_file(policy: OnnxPolicy, way: str) -> None:
    policy.path.unlink()
    twin = COPIES[way](policy)
    np.testing.assert_array_equal(twin.predict(OBSERVATION)[0], policy.predict(OBSERVATION)[0])
    assert (twin.sha256, twin.path) == (policy.sha256, policy.path)
    assert twin.spec.to_json() == policy.spec.to_json()


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_continues_the_draws_independently(policy: OnnxPolicy, way: str) -> None:
    draws(policy, 3)
    twin = COPIES[way](policy)
    first = draws(twin)
    assert first == draws(policy)  # the same generator state, in two generators
    assert first != draws(twin)


@pytest.mark.parametrize("way", COPIES)
def test_a_copied_session_continues_its_episode(tmp_path: Path, way: str) -> None:
    file = write_policy(tmp_path / "p.onnx", box(2), frames=3)
    session = Session(OnnxPolicy(file))
    for step in range(4):
        session.act(np.full(2, step, np.float32))
    twin = COPIES[way](session)
    for step in range(3):
        observation = np.full(2, -step, np.float32)
        np.testing.assert_array_equal(twin.act(observation), session.act(observation))


def test_a_copy_keeps_attributes_of_a_subclass(policy: OnnxPolicy) -> None:
    policy.label = "left arm"  # type: ignore[attr-defined]
    assert copy.deepcopy(policy).label == "left arm"  # type: ignore[attr-defined]


def act(policy: OnnxPolicy, results: Any) -> None:
    batch = np.tile(OBSERVATION, (256, 1))
    results.send([policy.predict(batch)[0].tobytes(), *draws(policy)])


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_another_process_gets_the_same_actions(tmp_path: Path, method: str, threads: int) -> None:
    file = write_policy(tmp_path / "p.onnx", distribution=True, hidden=4096)
    policy = OnnxPolicy(file, threads=threads, seed=5)
    batch = np.tile(OBSERVATION, (256, 1))
    want = policy.predict(batch)[0].tobytes()  # on several threads
    context: Any = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    process: Any = context.Process(target=act, args=(policy, sender))
    process.start()
    try:
        assert receiver.poll(60), "the process does not answer"
        found = receiver.recv()
    finally:
        process.kill()
        process.join()
    assert found == [want, *draws(policy)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_during_a_draw_does_not_block(policy: OnnxPolicy) -> None:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    with policy._rng_lock:  # as if another thread were drawing
        process = context.Process(target=act, args=(policy, sender))
        process.start()
    try:
        assert receiver.poll(30), "the process waits for a thread that it does not have"
    finally:
        process.kill()
        process.join()


def test_threads_can_pickle_while_others_draw(policy: OnnxPolicy) -> None:
    stop = threading.Event()

    def draw() -> None:
        while not stop.is_set():
            policy.predict(OBSERVATION, deterministic=False)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        for _ in range(50):
            pickle.loads(pickle.dumps(policy)).predict(OBSERVATION, deterministic=False)
    finally:
        stop.set()
        thread.join()


class Opponent(gymnasium.Env[Array, Array]):
    """An environment whose other player is an exported policy."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Box(-1, 1, (2,))

    def __init__(self, session: Session) -> None:
        self._session = session

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._session.reset()
        return self._session.act(OBSERVATION), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        return self._session.act(OBSERVATION) + action, 0.0, False, False, {}


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_environments_in_subprocesses_hold_a_session(policy: OnnxPolicy, method: str) -> None:
    # Imported here, since the processes of the other tests import this module.
    from stable_baselines3.common.vec_env import SubprocVecEnv

    session = Session(policy)
    environments = SubprocVecEnv([lambda: Opponent(session)] * 2, start_method=method)
    try:
        observations = environments.reset()
    finally:
        environments.close()
    np.testing.assert_array_equal(observations, [policy.predict(OBSERVATION)[0]] * 2)
