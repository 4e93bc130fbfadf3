"""The whole way on CartPole: train, export, verify, serve, and one episode over HTTP."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import gymnasium
from rich.console import Console
from rich.table import Table

from trpo_deploy.cli.app import train_with_progress
from trpo_deploy.errors import ServeError, TrainingError
from trpo_deploy.export import export_policy
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.runs import find_run
from trpo_deploy.train import load_config

ENV_ID = "CartPole-v1"
TARGET = 475.0
"""The return at which CartPole-v1 counts as solved."""
_START_TIMEOUT_S = 60.0


def run_demo(output: Path, console: Console) -> None:
    """Do it all, a line a step, and a summary at the end.

    Raises:
        TrainingError: the training did not reach :data:`TARGET`.
        ServeError: the service did not answer.
    """
    folder = ModelDir(output)
    console.print(f"[bold]1. train[/] TRPO on {ENV_ID} until the return is {TARGET:g}")
    config = load_config(ENV_ID, eval_every=5_000, stop_return=TARGET)
    trained = train_with_progress(config, folder, force=output.exists(), show=True)
    if not trained.stopped_early:
        raise TrainingError(f"the return stayed at {trained.last.mean:.1f}, below {TARGET:g}")

    console.print("[bold]2. export[/] the policy to one ONNX file and hold it against SB3")
    exported = export_policy(find_run(output), folder.onnx)
    assert exported.certificate is not None

    console.print("[bold]3. serve[/] it with BentoML and play one episode over HTTP")
    with _service(output) as port:
        episode_return, latencies = _play_over_http(port, seed=config.seed)

    table = Table(title="from environment to HTTP answer", show_header=False)
    table.add_row("return in training", f"{trained.last.mean:.1f} ± {trained.last.std:.1f}")
    table.add_row("return over HTTP", f"{episode_return:.1f} (one episode)")
    table.add_row("certificate", f"the same policy ({len(exported.certificate.checks)} checks)")
    table.add_row("policy.onnx", f"{exported.size / 1024:.1f} kB")
    table.add_row("latency over HTTP", f"{1e3 * median(latencies):.2f} ms (median)")
    table.add_row("trained", f"{trained.timesteps:,} steps in {trained.seconds:.0f} s")
    console.print(table)
    console.print(
        "try next:\n"
        f"  trpo-deploy inspect {output}\n"
        f"  trpo-deploy evaluate {output}\n"
        f"  trpo-deploy serve {output}\n"
        "  trpo-deploy train Pendulum-v1"
    )


@contextmanager
def _service(model: Path) -> Iterator[int]:
    """``trpo-deploy serve`` as a process of its own, on a free port, until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "trpo_deploy", "serve", str(model), "--port", str(port)]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _wait_until_ready(process, port)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _wait_until_ready(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            error = process.stderr.read() if process.stderr else ""
            raise ServeError(f"the service ended while starting: {error}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise ServeError(f"the service was not ready within {_START_TIMEOUT_S:g} s")


def _play_over_http(port: int, seed: int) -> tuple[float, list[float]]:
    """One episode, each action asked for by ``POST /predict``; its return and the seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    total, latencies, over = 0.0, [], False
    with gymnasium.make(ENV_ID) as env:
        observation, _ = env.reset(seed=seed)
        while not over:
            body = json.dumps({"observation": observation.tolist()})
            start = time.perf_counter()
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
            latencies.append(time.perf_counter() - start)
            if response.status != http.client.OK:
                raise ServeError(f"the service answered {response.status}: {answer}")
            observation, reward, terminated, truncated, _ = env.step(answer["action"])
            total += float(reward)
            over = terminated or truncated
    return total, latencies
