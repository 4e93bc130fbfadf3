"""A real server under steady load: the good clients, and what they and the machine notice."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from tests.command import COMMAND
from tests.serve.server import ZYGOTE, wait_until
from trpo_deploy.runtime import OnnxPolicy

CLIENTS = 4
SAMPLES = 20
"""Observations of each model that the clients send."""
PAUSE_S = 0.005


class Target:
    """A running ``trpo-deploy serve`` with its log, keys and models.

    Args:
        process: The supervisor.
        log: File with everything that the server's processes wrote.
        models: The served folder.
        keys: The file of API keys.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path, models: Path, keys: Path):
        self.process, self.log, self.models, self.keys = process, log, models, keys
        first = next(line for line in log.read_text().splitlines() if line.startswith("serving"))
        self.url = first.split(" at ")[1].split()[0]
        self.port = int(self.url.rpartition(":")[2])

    def workers(self) -> set[int]:
        """Pids of the workers, which are the zygote's children."""
        zygotes = (
            child
            for child in psutil.Process(self.process.pid).children()
            if ZYGOTE in _command_line(child)
        )
        return {worker.pid for zygote in zygotes for worker in zygote.children()}

    def memory(self) -> float:
        """PSS of all processes, in MB."""
        parent = psutil.Process(self.process.pid)
        return sum(map(_memory, (parent, *parent.children(recursive=True))))

    def client(self, key: str) -> httpx.Client:
        """A client that sends a key."""
        headers = {"authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


def _memory(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@contextmanager
def serving(models: Path, keys: Path, folder: Path, *options: str) -> Iterator[Target]:
    """Run ``trpo-deploy serve`` on a free port, with its output in a file."""
    log = folder / "log"
    arguments = ["serve", str(models), "--port", "0", "--api-key-file", str(keys), *options]
    environment = {**os.environ, "TRPO_DEPLOY_SLOW_CLIENT_SECONDS": "2"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, *arguments], stdout=output, stderr=output, env=environment
        )
    try:
        ready = wait_until(
            lambda: process.poll() is not None or "serving" in log.read_text(), seconds=120
        )
        assert ready, log.read_text()
        assert process.poll() is None, log.read_text()
        yield Target(process, log, models, keys)
    finally:
        process.terminate()
        process.wait(120)


@dataclass
class Load:
    """What the good clients and the machine noticed."""

    good: int = 0
    """Right answers."""
    refused: int = 0
    """Answers 503 ``overloaded`` with ``Retry-After``, which the documentation allows."""
    bad: list[str] = field(default_factory=list)
    """All other answers."""
    peak_mb: float = 0.0
    """Highest memory of all processes of the server (PSS), in MB."""


@contextmanager
def under_load(target: Target, names: list[str], key: str) -> Iterator[Load]:
    """Send requests of good clients until the block ends."""
    load, stop = Load(), threading.Event()
    questions = [each for name in names for each in _questions(target.models / name, name)]
    jobs = [(_send, (target, key, questions, load, stop, seed)) for seed in range(CLIENTS)]
    threads = [threading.Thread(target=job, args=args) for job, args in jobs]
    threads.append(threading.Thread(target=_watch_memory, args=(target, load, stop)))
    with ExitStack() as stack:
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(stop.set)
        yield load


def _questions(folder: Path, name: str) -> list[tuple[dict[str, Any], Any]]:
    """Requests to a model, each with the action of its file."""
    policy = OnnxPolicy(folder / "policy.onnx")
    rng = np.random.default_rng(0)
    found = []
    for _ in range(SAMPLES):
        observation = policy.spec.sample_observation(rng)
        action, _ = policy.predict(observation)
        plain = (
            {key: array.tolist() for key, array in observation.items()}
            if isinstance(observation, dict)
            else np.asarray(observation).tolist()
        )
        found.append(({"observation": plain, "model": name}, action))
    return found


def _send(
    target: Target,
    key: str,
    questions: list[tuple[dict[str, Any], Any]],
    load: Load,
    stop: threading.Event,
    seed: int,
) -> None:
    rng = random.Random(seed)
    with target.client(key) as client:
        while not stop.wait(PAUSE_S):
            body, action = rng.choice(questions)
            try:
                answer = client.post("/predict", json=body)
            except httpx.TransportError as error:
                load.bad.append(repr(error))
                continue
            if answer.status_code == 503 and "retry-after" in answer.headers:
                load.refused += 1
            elif answer.status_code != 200:
                load.bad.append(f"{answer.status_code} {answer.text[:200]}")
            # Requests share runs of a policy, and a batch sums in another order: about 1e-6.
            elif not np.allclose(answer.json()["action"], action, rtol=1e-4, atol=1e-4):
                load.bad.append(f"wrong action for {body}: {answer.text[:200]}, want {action}")
            else:
                load.good += 1


def _watch_memory(target: Target, load: Load, stop: threading.Event) -> None:
    while not stop.wait(0.2):
        load.peak_mb = max(load.peak_mb, target.memory())


def settle(target: Target, limit_mb: float, seconds: float = 30) -> float:
    """Wait until the server's memory is below a limit; returns what it has in the end."""
    wait_until(lambda: target.memory() < limit_mb, seconds)
    time.sleep(0.5)
    return target.memory()
